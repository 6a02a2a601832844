//! Packing rows into one batch changes nothing: sequences beside each other, branches behind a shared prompt.

use crate::support::{FAMILIES, Loss, WINDOW, assert_close, decoder, relative_error, tokens};
use rlrf_model::{Activations, Batch};

#[test]
fn packed_sequences_are_the_sequences_alone() {
    for (architecture, tied) in FAMILIES {
        let decoder = decoder(architecture, tied);
        let (mut packed, mut packed_loss) = (Batch::default(), Loss::default());
        let (mut alone_logits, mut alone_logprobs) = (Vec::new(), Vec::new());
        let mut alone_gradients = vec![0.0; decoder.layout().len()];
        for (len, seed) in [(9, 1), (6, 2)] {
            let sequence = tokens(len, seed);
            let rows = packed.push_sequence(&sequence);
            packed_loss.push_sequence(&packed, rows, seed);

            let (mut alone, mut loss) = (Batch::default(), Loss::default());
            let rows = alone.push_sequence(&sequence);
            loss.push_sequence(&alone, rows.clone(), seed);
            let mut activations = Activations::default();
            let (logprobs, gradients) = loss.run(&decoder, &alone, &mut activations);
            alone_logits.extend(decoder.logits(&activations, &rows.collect::<Vec<_>>()));
            alone_logprobs.extend(logprobs);
            alone_gradients.iter_mut().zip(gradients).for_each(|(sum, gradient)| *sum += gradient);
        }
        let mut activations = Activations::default();
        let (logprobs, gradients) = packed_loss.run(&decoder, &packed, &mut activations);
        assert_eq!(decoder.logits(&activations, &(0..packed.len()).collect::<Vec<_>>()), alone_logits);
        assert_eq!(logprobs, alone_logprobs);
        assert_close(decoder.layout(), &gradients, &alone_gradients, 1e-5);
    }
}

#[test]
fn a_tree_is_its_full_sequences() {
    let prompt_tokens = tokens(7, 1);
    let branches: Vec<Vec<u32>> = [(5, 2), (1, 3), (8, 4)].map(|(len, seed)| tokens(len, seed)).into();
    for (architecture, tied) in FAMILIES {
        let decoder = decoder(architecture, tied);
        let (mut tree, mut tree_loss) = (Batch::default(), Loss::default());
        let (mut full, mut full_loss) = (Batch::default(), Loss::default());
        // A neighbour, so that the tree does not start at row 0.
        tree.push_sequence(&tokens(3, 5));
        let prompt = tree.push_sequence(&prompt_tokens);
        for branch in &branches {
            let rows = tree.push_branch(prompt.clone(), branch);
            let sequence = full.push_sequence(&[prompt_tokens.as_slice(), branch].concat());
            let first = sequence.start + prompt.len();
            for (index, &token) in branch.iter().enumerate() {
                let weight = 0.3 + 0.1 * index as f32;
                let row = if index == 0 { prompt.end - 1 } else { rows.start + index - 1 };
                tree_loss.push(row, token, weight);
                full_loss.push(first + index - 1, token, weight);
            }
        }
        let (logprobs, gradients) = tree_loss.run(&decoder, &tree, &mut Activations::default());
        let (expected, expected_gradients) = full_loss.run(&decoder, &full, &mut Activations::default());
        assert!(relative_error(&logprobs, &expected) < 1e-5);
        assert_close(decoder.layout(), &gradients, &expected_gradients, 1e-5);
    }
}

/// Two layers of window `w` see `2 (w - 1)` tokens back, and no further.
#[test]
fn a_sliding_window_hides_what_lies_behind_it() {
    let sequence = tokens(20, 1);
    let last_logits = |architecture: &str, changed: usize| {
        let decoder = decoder(architecture, true);
        let mut sequence = sequence.clone();
        sequence[changed] = (sequence[changed] + 1) % crate::support::VOCAB;
        let (mut batch, mut activations) = (Batch::default(), Activations::default());
        let rows = batch.push_sequence(&sequence);
        decoder.forward(&batch, &mut activations).unwrap();
        decoder.logits(&activations, &[rows.end - 1])
    };
    let reach = 2 * (WINDOW - 1);
    let unseen = last_logits("MistralForCausalLM", 0);
    assert_eq!(last_logits("MistralForCausalLM", 19 - reach - 1), unseen);
    assert_ne!(last_logits("MistralForCausalLM", 19 - reach), unseen);
    assert_ne!(last_logits("LlamaForCausalLM", 0), last_logits("LlamaForCausalLM", 1));
}
