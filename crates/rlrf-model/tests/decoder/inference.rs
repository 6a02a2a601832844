//! Generation sees what training sees.

use crate::support::{FAMILIES, decoder, relative_error, tokens};
use rlrf_kernels::attention::{self, DecodeScratch, Query};
use rlrf_model::inference::{InferenceDecoder, Scratch};
use rlrf_model::{Activations, Batch, Computation, Decoder, Precision, WeightFormat};

/// One sequence's keys and values, per layer.
#[derive(Default, Clone)]
struct Cache {
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    len: usize,
}

/// Continues several sequences in one call; returns the logits of their rows.
fn run(decoder: &InferenceDecoder, scratch: &mut Scratch, parts: &mut [(&mut Cache, &[u32])]) -> Vec<f32> {
    let heads = decoder.config().heads();
    let (mut tokens, mut positions) = (Vec::new(), Vec::new());
    for (cache, part) in parts.iter_mut() {
        cache.layers.resize_with(decoder.config().num_hidden_layers, Default::default);
        tokens.extend_from_slice(part);
        positions.extend((cache.len as u32..).take(part.len()));
        cache.len += part.len();
    }
    let mut attention_scratch = DecodeScratch::default();
    let hidden = decoder.hidden(&tokens, &positions, scratch, &mut |layer, q, k, v, out| {
        let (query, key_value) = (heads.query * heads.dim, heads.key_value * heads.dim);
        let mut rows =
            q.chunks(query).zip(k.chunks(key_value)).zip(v.chunks(key_value)).zip(out.chunks_mut(query));
        for (cache, part) in parts.iter_mut() {
            let (keys, values) = &mut cache.layers[layer];
            for (((q, k), v), out) in rows.by_ref().take(part.len()) {
                keys.extend_from_slice(k);
                values.extend_from_slice(v);
                let unseen = heads.window.map_or(0, |window| keys.len().saturating_sub(window * key_value));
                let blocks = vec![(&keys[unseen..], &values[unseen..])];
                let group = query / heads.key_value;
                for (head, out) in out.chunks_exact_mut(group).enumerate() {
                    let mut query = [Query { q, blocks: blocks.clone(), out }];
                    attention::decode(&mut query, &[], heads, head, &mut attention_scratch);
                }
            }
        }
    });
    let mut logits = Vec::new();
    decoder.logits(hidden, tokens.len(), &mut logits);
    logits
}

fn training_logits(decoder: &Decoder, computation: Computation, tokens: &[u32]) -> Vec<f32> {
    let (mut batch, mut activations) = (Batch::default(), Activations::new(computation));
    let rows = batch.push_sequence(tokens);
    decoder.forward(&batch, &mut activations).unwrap();
    decoder.logits(&activations, &rows.collect::<Vec<_>>())
}

#[test]
fn decoding_token_by_token_gives_the_logits_of_training() {
    let sequence = tokens(12, 1);
    let formats = [
        (WeightFormat::F32, Precision::F32, 1e-5),
        // Embeddings that are the head's are rounded with it; in training they are not.
        (WeightFormat::Bf16, Precision::Bf16, 2e-2),
        (WeightFormat::Int8, Precision::F32, 3e-2),
    ];
    for ((format, precision, tolerance), (architecture, tied)) in
        formats.into_iter().flat_map(|format| FAMILIES.map(|family| (format, family)))
    {
        let decoder = decoder(architecture, tied);
        let computation = Computation { precision, recompute: false };
        let expected = training_logits(&decoder, computation, &sequence);
        let inference = InferenceDecoder::new(&decoder, format);
        let (mut cache, mut scratch) = (Cache::default(), Scratch::default());
        let logits: Vec<f32> = sequence
            .chunks(1)
            .flat_map(|token| run(&inference, &mut scratch, &mut [(&mut cache, token)]))
            .collect();
        let error = relative_error(&logits, &expected);
        assert!(error < tolerance, "{format:?} {architecture}, tied {tied}: relative error {error:.1e}");
    }
}

#[test]
fn a_row_does_not_depend_on_how_rows_are_cut_into_calls() {
    let (sequence, neighbour) = (tokens(12, 1), tokens(5, 2));
    let formats = [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8];
    for (format, (architecture, tied)) in
        formats.into_iter().flat_map(|format| FAMILIES.map(|family| (format, family)))
    {
        let inference = InferenceDecoder::new(&decoder(architecture, tied), format);
        let mut scratch = Scratch::default();
        let at_once = run(&inference, &mut scratch, &mut [(&mut Cache::default(), &sequence)]);

        let mut cache = Cache::default();
        let mut in_two = run(&inference, &mut scratch, &mut [(&mut cache, &sequence[..7])]);
        let beside_another = run(
            &inference,
            &mut scratch,
            &mut [(&mut Cache::default(), &neighbour), (&mut cache, &sequence[7..])],
        );
        in_two.extend(&beside_another[neighbour.len() * inference.config().vocab_size..]);
        assert_eq!(in_two, at_once, "{format:?} {architecture}, tied {tied}");
    }
}
