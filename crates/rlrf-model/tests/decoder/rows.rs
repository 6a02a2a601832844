//! Where few rows are asked for, the last layer computes few; their results are the same to the bit. In f32 gradients
//! are, too, but in AMX tiles, whose sums over rows depend on which there are, as those of bf16 do.

use rlrf_kernels::matmul::has_tiles;
use rlrf_model::{Activations, Batch, Computation, Precision};

use crate::support::{FAMILIES, Loss, assert_close, decoder, noise, tokens};

/// Two trees, and a sequence; 131 rows, more than any sum over rows takes together.
fn batch() -> Batch {
    let mut batch = Batch::default();
    let prompt = batch.push_sequence(&tokens(9, 1));
    batch.push_branch(prompt.clone(), &tokens(6, 2));
    batch.push_branch(prompt, &tokens(5, 3));
    batch.push_sequence(&tokens(11, 4));
    let prompt = batch.push_sequence(&tokens(45, 7));
    batch.push_branch(prompt.clone(), &tokens(15, 8));
    batch.push_branch(prompt, &tokens(18, 9));
    batch.push_sequence(&tokens(22, 10));
    batch
}

fn loss(rows: &[usize]) -> Loss {
    let mut loss = Loss::default();
    for ((&row, &target), weight) in rows.iter().zip(&tokens(rows.len(), 5)).zip(noise(6)) {
        loss.push(row, target, weight);
    }
    loss
}

#[test]
fn rows_that_are_asked_for_are_as_if_all_were() {
    let batch = batch();
    for (architecture, tied) in FAMILIES {
        let decoder = decoder(architecture, tied);
        for precision in [Precision::F32, Precision::Bf16] {
            for recompute in [false, true] {
                let mut activations = Activations::new(Computation { precision, recompute });
                for rows in [
                    &[130][..],
                    &[8, 9, 10, 8, 15, 16, 75, 76, 77],
                    &[120, 20, 3, 4, 70],
                    &[],
                    &[0, 29, 30, 31, 96],
                ] {
                    let loss = loss(rows);
                    let (logprobs, gradients) = loss.run(&decoder, &batch, &mut activations);
                    let logits = decoder.logits(&activations, rows);
                    decoder.forward_rows(&batch, rows, &mut activations).unwrap();
                    assert!(activations.hidden().len() <= rows.len() * decoder.config().hidden_size);
                    assert_eq!(decoder.logits(&activations, rows), logits);
                    assert_eq!(decoder.logprobs(&mut activations, rows, &loss.targets), logprobs);
                    let mut found = vec![0.0; gradients.len()];
                    let (targets, weights) = (&loss.targets, &loss.weights);
                    decoder.backward(&batch, &mut activations, rows, targets, weights, &mut found);
                    match precision {
                        _ if rows.is_empty() => assert_eq!(found, gradients),
                        Precision::F32 if has_tiles() => {
                            assert_close(decoder.layout(), &found, &gradients, 1e-5);
                        }
                        Precision::F32 => {
                            assert_eq!(found, gradients, "{architecture} {recompute} {rows:?}");
                        }
                        // What is summed in another order may be rounded to the next number.
                        Precision::Bf16 => assert_close(decoder.layout(), &found, &gradients, 2e-3),
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "the forward was not asked for row 20")]
fn a_row_that_was_not_asked_for_is_not_there() {
    let decoder = decoder("LlamaForCausalLM", true);
    let mut activations = Activations::default();
    decoder.forward_rows(&batch(), &[3, 8], &mut activations).unwrap();
    let _ = decoder.logits(&activations, &[20]);
}
