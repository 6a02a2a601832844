//! The hot tensor operations of a decoder, forward and backward, on plain row-major `f32` slices.
//!
//! Every operation computes each output element by one thread in one fixed order, so results do not
//! depend on the number of threads nor on how many other rows share the call. Slices whose lengths
//! contradict the given shape are a bug of the caller, and panic.
//!
//! Matrix products can take their operands rounded to bf16, or weights of 8 bits ([`matmul::Operands`]); sums are f32. What is for
//! products alone can be rounded when it is written ([`rows::Rows`]).

#[cfg(not(target_endian = "little"))]
compile_error!("pairs of bf16 lie in memory as little-endian processors read them");

#[macro_use]
mod simd;

pub mod adamw;
pub mod attention;
pub mod bf16;
pub mod gradients;
mod int8;
pub mod logprobs;
pub mod matmul;
pub mod norm;
mod parallel;
pub mod rope;
pub mod rows;
pub mod softmax;
pub mod swiglu;
