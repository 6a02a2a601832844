//! Lower precision is near the exact result, and keeping less changes nothing.

use crate::gradients::batch;
use crate::support::{FAMILIES, assert_close, decoder, relative_error};
use rlrf_model::{Activations, Computation, Precision};

const BF16: Computation = Computation { precision: Precision::Bf16, recompute: false };

/// Roundings of 2^-9 at every product of two layers add up to a few per cent of a gradient.
#[test]
fn bf16_is_within_its_rounding_of_f32() {
    let (batch, loss) = batch();
    for (architecture, tied) in FAMILIES {
        let decoder = decoder(architecture, tied);
        let (logprobs, gradients) = loss.run(&decoder, &batch, &mut Activations::default());
        let (found, found_gradients) = loss.run(&decoder, &batch, &mut Activations::new(BF16));
        assert!(found != logprobs, "nothing was rounded");
        assert!(relative_error(&found, &logprobs) < 0.01, "{architecture}, tied {tied}");
        let error = relative_error(&found_gradients, &gradients);
        assert!(error < 0.04, "{architecture}, tied {tied}: relative error {error:.1e}");
        assert_close(decoder.layout(), &found_gradients, &gradients, 0.15);
    }
}

#[test]
fn recomputing_gives_the_same_bits() {
    let (batch, loss) = batch();
    for (architecture, tied) in FAMILIES {
        let decoder = decoder(architecture, tied);
        let whole = loss.run(&decoder, &batch, &mut Activations::default());
        let recompute = Computation { recompute: true, ..Computation::default() };
        let mut activations = Activations::new(recompute);
        assert_eq!(loss.run(&decoder, &batch, &mut activations), whole, "{architecture}, tied {tied}");
        assert_eq!(loss.run(&decoder, &batch, &mut activations), whole, "{architecture}, tied {tied}: again");
        // In bf16, kept activations are rounded and recomputed ones are not.
        let kept = loss.run(&decoder, &batch, &mut Activations::new(BF16));
        let recomputed =
            loss.run(&decoder, &batch, &mut Activations::new(Computation { recompute: true, ..BF16 }));
        assert_eq!(recomputed.0, kept.0);
        assert!(relative_error(&recomputed.1, &kept.1) < 0.01, "{architecture}, tied {tied}");
    }
}

#[test]
fn bf16_does_not_depend_on_the_number_of_threads() {
    let decoder = decoder("Qwen3ForCausalLM", true);
    let (batch, loss) = batch();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| loss.run(&decoder, &batch, &mut Activations::new(BF16)))
    };
    assert_eq!(run(1), run(3));
}

#[test]
#[should_panic(expected = "for forwards alone")]
fn a_forward_that_keeps_nothing_has_no_backward() {
    let (batch, loss) = batch();
    loss.run(&decoder("LlamaForCausalLM", true), &batch, &mut Activations::forward_only(Precision::F32));
}
