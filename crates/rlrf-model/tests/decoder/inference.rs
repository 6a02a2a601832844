//! Generation sees what training sees.

use crate::support::{FAMILIES, decoder, relative_error, tokens};
use rlrf_kernels::attention::{self, BLOCK, DecodeScratch, KeyValues, Query};
use rlrf_kernels::matmul::has_tiles;
use rlrf_model::inference::{InferenceDecoder, Scratch};
use rlrf_model::{Activations, Batch, Computation, Decoder, Precision, WeightFormat};

/// One sequence's keys and values, per layer and key/value head.
#[derive(Default, Clone)]
struct Cache {
    layers: Vec<Vec<KeyValues>>,
    len: usize,
}

/// Continues several sequences in one call; returns the logits of their rows.
fn run(decoder: &InferenceDecoder, scratch: &mut Scratch, parts: &mut [(&mut Cache, &[u32])]) -> Vec<f32> {
    run_for(decoder, scratch, parts, |_| true)
}

/// [`run`], with the logits of some rows alone.
fn run_for(
    decoder: &InferenceDecoder,
    scratch: &mut Scratch,
    parts: &mut [(&mut Cache, &[u32])],
    wanted: impl Fn(usize) -> bool,
) -> Vec<f32> {
    let heads = decoder.config().heads();
    let (mut tokens, mut positions) = (Vec::new(), Vec::new());
    for (cache, part) in parts.iter_mut() {
        let empty = vec![KeyValues::new(decoder.cache_operands(), heads.dim, usize::MAX); heads.key_value];
        cache.layers.resize(decoder.config().num_hidden_layers, empty);
        tokens.extend_from_slice(part);
        positions.extend((cache.len as u32..).take(part.len()));
        cache.len += part.len();
    }
    let mut attention_scratch = DecodeScratch::default();
    let outputs: Vec<usize> = (0..tokens.len()).filter(|&row| wanted(row)).collect();
    let hidden =
        decoder.hidden(&tokens, &positions, &outputs, scratch, &mut |layer, queries, q, k, v, out| {
            let (dim, group) = (heads.dim, heads.query / heads.key_value * heads.dim);
            let (query, key_value) = (heads.query * dim, heads.key_value * dim);
            let mut rows = k.chunks(key_value).zip(v.chunks(key_value)).enumerate();
            let mut asking = q.chunks(query).zip(out.chunks_mut(query));
            for (cache, part) in parts.iter_mut() {
                let places = cache.len - part.len()..;
                for (place, (row, (k, v))) in places.zip(rows.by_ref().take(part.len())) {
                    let chain: Vec<usize> = (0..=place / BLOCK).collect();
                    for (cached, (k, v)) in
                        cache.layers[layer].iter_mut().zip(k.chunks(dim).zip(v.chunks(dim)))
                    {
                        cached.grow(chain.len());
                        cached.store(std::iter::once((place / BLOCK, place % BLOCK, k, v)));
                    }
                    if queries.is_some_and(|queries| !queries.contains(&row)) {
                        continue;
                    }
                    let keys = heads.window.map_or(0, |window| (place + 1).saturating_sub(window))..place + 1;
                    let (q, out) = asking.next().unwrap();
                    let of_heads = q.chunks(group).zip(out.chunks_mut(group));
                    for (cached, (q, out)) in cache.layers[layer].iter().zip(of_heads) {
                        let mut query = [Query { q, chain: &chain, keys: keys.clone(), out }];
                        attention::decode(cached, &mut query, 0, &mut attention_scratch);
                    }
                }
            }
        });
    let mut logits = Vec::new();
    decoder.logits(hidden, outputs.len(), &mut logits);
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
    let sequence = tokens(20, 1);
    // Where embeddings are the head's, they are rounded with it; in training they are not. Cached keys in bf16 do not go through AMX
    // tiles; those of training do. All else is the same to the bit.
    let [tied_f32, bf16] = if has_tiles() { [1e-6, 1e-2] } else { [0.0, 0.0] };
    let formats = [
        (WeightFormat::F32, Precision::F32, [0.0, tied_f32]),
        (WeightFormat::Bf16, Precision::Bf16, [bf16, 2e-2]),
        (WeightFormat::Int8, Precision::F32, [4e-2, 4e-2]),
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
        assert!(
            error <= tolerance[usize::from(tied)],
            "{format:?} {architecture}, tied {tied}: relative error {error:.1e}"
        );
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

        let vocab = inference.config().vocab_size;
        let odd = at_once.chunks(vocab).skip(1).step_by(2).flatten().copied().collect::<Vec<_>>();
        let parts = &mut [(&mut Cache::default(), &sequence[..])];
        let some = run_for(&inference, &mut scratch, parts, |row| row % 2 == 1);
        assert_eq!(some, odd, "{format:?} {architecture}, tied {tied}");
        let parts = &mut [(&mut Cache::default(), &sequence[..])];
        assert!(run_for(&inference, &mut scratch, parts, |_| false).is_empty());
    }
}
