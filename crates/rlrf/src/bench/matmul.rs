//! Matrix products in the shapes of a model.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use rlrf_kernels::matmul::{Operands, PackedLinear, linear, linear_backward_input, linear_backward_weight};
use rlrf_model::ModelConfig;
use serde_json::{Value, json};

use crate::bench::arguments::{MatmulOptions, Repetitions};
use crate::bench::machine::Load;
use crate::bench::precision;
use crate::bench::report::Report;
use crate::bench::stopwatch::{Laps, median};
use crate::models;

/// Rows from which on a product is bound by arithmetic: below, weights have to come from memory as in a whole model.
const MANY_ROWS: usize = 256;
/// A measurement repeats the product until this much is done, so that the clock's grain is none of it.
const GFLOP_PER_MEASUREMENT: f64 = 1.0;

/// Measures a linear layer's products, packed, forward and backward (8-bit weights: packed alone), for each shape and number of rows.
pub(crate) fn measure(options: &MatmulOptions) -> Result<Report> {
    let MatmulOptions { subject, rows, repetitions } = options;
    let operands = precision::matmul(subject.precision);
    let config = models::load(&subject.model)?.decoder.config().clone();
    let load = Load::now();
    let (mut products, mut gflop, mut seconds) = (Vec::new(), 0.0, 0.0);
    for rows in rows.iter().map(|rows| rows.get()) {
        for (inputs, outputs) in shapes(&config) {
            let shape = Shape { operands, rows, inputs, outputs, weights: weights(rows, &config) };
            for product in shape.measure(repetitions) {
                gflop += shape.gflop();
                seconds += product.seconds;
                products.push(shape.row(&product));
            }
        }
    }
    let laps = Laps { seconds: vec![seconds], others_cores: load.others_cores() };
    let settings = json!({
        "rows": rows,
        "repeat": repetitions.repeat,
        "warmup": repetitions.warmup,
    });
    let report = Report::new("matmul", subject, (gflop, "GFLOP"), laps, settings);
    Ok(report.with_details(products.into()))
}

fn shapes(config: &ModelConfig) -> [(usize, usize); 3] {
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    [(hidden, intermediate), (intermediate, hidden), (hidden, hidden)]
}

fn weights(rows: usize, config: &ModelConfig) -> usize {
    if rows < MANY_ROWS { config.num_hidden_layers } else { 1 }
}

struct Shape {
    operands: Operands,
    rows: usize,
    inputs: usize,
    outputs: usize,
    /// Different weights that are used in turn.
    weights: usize,
}

impl Shape {
    fn measure(&self, repetitions: &Repetitions) -> Vec<Product> {
        let &Self { operands, rows, inputs, outputs, .. } = self;
        let weights: Vec<Vec<f32>> = (0..self.weights).map(|_| noise(outputs * inputs)).collect();
        let pack = |weight: &Vec<f32>| PackedLinear::new(operands, weight, None, inputs, outputs);
        let packed: Vec<PackedLinear> = weights.iter().map(pack).collect();
        let (x, dy) = (noise(rows * inputs), noise(rows * outputs));
        let (mut y, mut dx) = (vec![0.0; rows * outputs], vec![0.0; rows * inputs]);
        let mut dw = vec![0.0; outputs * inputs];
        let mut measured = Vec::new();
        let mut time = |operation: &'static str, product: &mut dyn FnMut(usize)| {
            measured.push(Product { operation, seconds: self.time(repetitions, product) });
        };
        time("packed", &mut |i| packed[i].forward(black_box(&x), &mut y, rows));
        if operands == Operands::Int8 {
            return measured;
        }
        time("linear", &mut |i| {
            linear(operands, black_box(&x), &weights[i], None, &mut y, rows, inputs, outputs);
        });
        time("backward_input", &mut |i| {
            linear_backward_input(
                operands,
                black_box(&dy),
                &weights[i],
                &mut dx,
                rows,
                inputs,
                outputs,
                false,
            );
        });
        time("backward_weight", &mut |_| {
            linear_backward_weight(operands, black_box(&dy), &x, &mut dw, None, rows, inputs, outputs);
        });
        measured
    }

    fn gflop(&self) -> f64 {
        2.0 * (self.rows * self.inputs * self.outputs) as f64 / 1e9
    }

    /// Median seconds of one product.
    fn time(&self, repetitions: &Repetitions, product: &mut dyn FnMut(usize)) -> f64 {
        let rounds = (GFLOP_PER_MEASUREMENT / self.gflop() / self.weights as f64).ceil().max(1.0) as usize;
        let products = rounds * self.weights;
        let mut run = || (0..products).for_each(|number| product(number % self.weights));
        (0..repetitions.warmup).for_each(|_| run());
        let seconds: Vec<f64> = (0..repetitions.repeat.get())
            .map(|_| {
                let start = Instant::now();
                run();
                start.elapsed().as_secs_f64() / products as f64
            })
            .collect();
        median(&seconds)
    }

    fn row(&self, product: &Product) -> Value {
        json!({
            "operation": product.operation,
            "rows": self.rows,
            "in": self.inputs,
            "out": self.outputs,
            "weights": self.weights,
            "microseconds": product.seconds * 1e6,
            "gflops": self.gflop() / product.seconds,
        })
    }
}

/// One kind of product of a shape.
struct Product {
    operation: &'static str,
    seconds: f64,
}

fn noise(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5).collect()
}
