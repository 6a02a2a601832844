//! Run-time choice of the instruction set, and the arithmetic that the vectorised loops share.
//!
//! Loops are written over fixed groups of [`LANES`] elements with explicit `mul_add`, so that every
//! instruction set gives the same bits.

use std::sync::OnceLock;

/// Elements in the fixed accumulator groups: one AVX-512 register.
pub(crate) const LANES: usize = 16;

/// One cache line; packed buffers are made of these so that no vector load straddles two.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; LANES]);

/// The instruction sets that loops are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    /// AVX-512 (F, VL, BW, DQ) with AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Whatever the build targets.
    Portable,
}

impl InstructionSet {
    /// The best set that this processor has.
    pub(crate) fn detect() -> Self {
        static DETECTED: OnceLock<InstructionSet> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            {
                if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") {
                    return Self::Portable;
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                {
                    return Self::Avx512;
                }
                Self::Avx2
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Portable
        })
    }
}

/// Bytes of a core's second-level cache, or the least that passes were measured with.
pub(crate) fn second_level_cache() -> usize {
    static DETECTED: OnceLock<usize> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        let kibibytes = {
            use std::arch::x86_64::__cpuid;
            // The leaf of AMD's that Intel's processors have, too.
            const CACHE: u32 = 0x8000_0006;
            if __cpuid(0x8000_0000).eax >= CACHE { __cpuid(CACHE).ecx >> 16 } else { 0 }
        };
        #[cfg(not(target_arch = "x86_64"))]
        let kibibytes = 0u32;
        // Virtual machines may hide it.
        ((kibibytes as usize) << 10).max(1 << 20)
    })
}

/// Whether the processor multiplies pairs of bf16 itself; it has [`InstructionSet::Avx512`] then.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_bf16_products() -> bool {
    static DETECTED: OnceLock<bool> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        InstructionSet::detect() == InstructionSet::Avx512 && is_x86_feature_detected!("avx512bf16")
    })
}

/// Whether the processor multiplies tiles of bf16 and of bytes (AMX), and the system lets this process do so. Products of bf16 and of
/// f32 run in them then, and add in another order than on all other processors.
pub fn has_tiles() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        static DETECTED: OnceLock<bool> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            const TILES: u32 = 1 << 24;
            const BYTES: u32 = 1 << 25;
            const BF16: u32 = 1 << 22;
            const ALL: u32 = TILES | BYTES | BF16;
            let features = || std::arch::x86_64::__cpuid_count(7, 0).edx;
            has_bf16_products()
                && is_x86_feature_detected!("avx512vbmi")
                && features() & ALL == ALL
                && tiles_are_permitted()
        })
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

/// Asks the system for the tile registers, for all threads of the process.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiles_are_permitted() -> bool {
    const ARCH_PRCTL: usize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let answer: usize;
    // SAFETY: this system call takes two numbers and touches no memory of the process.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => answer,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    answer == 0
}

/// Whether the processor adds four 8-bit products at once.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_byte_products() -> bool {
    static DETECTED: OnceLock<bool> = OnceLock::new();
    *DETECTED.get_or_init(|| is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni"))
}

/// Compiles one function for every [`InstructionSet`] and calls the best at run time.
///
/// The body must be plain loops and `#[inline(always)]` functions: only what is inlined into it is
/// compiled for the chosen set.
macro_rules! simd {
    (
        $(#[$meta:meta])*
        $visibility:vis unsafe fn $name:ident$(<$generic:ident: $bound:ident>)?($($argument:ident: $type:ty),* $(,)?) $body:block
    ) => {
        $(#[$meta])*
        $visibility unsafe fn $name$(<$generic: $bound>)?($($argument: $type),*) {
            #[inline(always)]
            unsafe fn body$(<$generic: $bound>)?($($argument: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            // SAFETY: passed on.
            unsafe fn avx512$(<$generic: $bound>)?($($argument: $type),*) { unsafe { body($($argument),*) } }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            // SAFETY: passed on.
            unsafe fn avx2$(<$generic: $bound>)?($($argument: $type),*) { unsafe { body($($argument),*) } }
            // SAFETY: `detect` found every feature that the callee enables; the rest is the caller's.
            unsafe {
                match $crate::simd::InstructionSet::detect() {
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::InstructionSet::Avx512 => avx512($($argument),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::InstructionSet::Avx2 => avx2($($argument),*),
                    $crate::simd::InstructionSet::Portable => body($($argument),*),
                }
            }
        }
    };
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? $body:block) => {
        $(#[$meta])*
        $visibility fn $name($($argument: $type),*) $(-> $output)? {
            #[inline(always)]
            fn body($($argument: $type),*) $(-> $output)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            fn avx512($($argument: $type),*) $(-> $output)? { body($($argument),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $output)? { body($($argument),*) }
            match $crate::simd::InstructionSet::detect() {
                // SAFETY: `detect` found every feature that the callee enables.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::InstructionSet::Avx512 => unsafe { avx512($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::InstructionSet::Avx2 => unsafe { avx2($($argument),*) },
                $crate::simd::InstructionSet::Portable => body($($argument),*),
            }
        }
    };
}

simd! {
    /// `x += delta`.
    pub(crate) fn add(x: &mut [f32], delta: &[f32]) {
        for (x, delta) in x.iter_mut().zip(delta) {
            *x += delta;
        }
    }
}

/// Asks for a line that is read soon, where the processor takes such a hint.
#[inline(always)]
pub(crate) fn prefetch_line(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, which changes no data, and takes any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The same of some lines.
pub(crate) fn prefetch(lines: &[Line]) {
    for line in lines {
        prefetch_line(line.0.as_ptr());
    }
}

/// The same of so many lines from there on, into the second-level cache.
pub(crate) fn prefetch_many(from: *const f32, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..lines {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(line * LANES).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, lines);
}

/// `e^x` within 2e-7 of the true value: 0 below -87.3, infinity above 88.3, NaN for NaN.
///
/// The polynomial and the split of ln 2 are those of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer that then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5.0e-1);
    let e = p.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    let y = e * power;
    let y = if x > 88.3 { f32::INFINITY } else { y };
    if x < -87.3 { 0.0 } else { y }
}

/// Combines accumulators pairwise, in a fixed order.
#[inline(always)]
fn reduce_lanes(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Sums accumulators pairwise, in a fixed order.
#[inline(always)]
pub(crate) fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    reduce_lanes(lanes, |a, b| a + b)
}

/// `sum_i a[i] b[i]`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_groups, a_rest) = a.as_chunks::<LANES>();
    let (b_groups, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_groups.iter().zip(b_groups) {
        for i in 0..LANES {
            lanes[i] = a[i].mul_add(b[i], lanes[i]);
        }
    }
    for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] = a.mul_add(*b, lanes[i]);
    }
    sum_lanes(lanes)
}

/// The largest element; negative infinity for none. NaN counts as smaller than everything.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (groups, rest) = x.as_chunks::<LANES>();
    for group in groups {
        for i in 0..LANES {
            lanes[i] = if group[i] > lanes[i] { group[i] } else { lanes[i] };
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = if value > *lane { value } else { *lane };
    }
    reduce_lanes(lanes, |a, b| if a > b { a } else { b })
}

/// `x = exp(x * scale - shift)` in place; returns the sum.
#[inline(always)]
pub(crate) fn exp_in_place(x: &mut [f32], scale: f32, shift: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (groups, rest) = x.as_chunks_mut::<LANES>();
    for group in groups {
        for i in 0..LANES {
            group[i] = exp(group[i].mul_add(scale, -shift));
            lanes[i] += group[i];
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *value = exp(value.mul_add(scale, -shift));
        *lane += *value;
    }
    sum_lanes(lanes)
}

/// `sum(exp(x - shift))`.
#[inline(always)]
pub(crate) fn sum_exp(x: &[f32], shift: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (groups, rest) = x.as_chunks::<LANES>();
    for group in groups {
        for i in 0..LANES {
            lanes[i] += exp(group[i] - shift);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += exp(value - shift);
    }
    sum_lanes(lanes)
}
