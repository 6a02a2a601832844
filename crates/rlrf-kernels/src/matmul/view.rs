//! Matrices as products find them: rows or columns side by side, or neither.

use std::marker::PhantomData;

/// A read-only matrix: element `(i, k)` lies at `i * outer + k * inner`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T = f32> {
    pub(super) data: *const T,
    end: *const T,
    pub(super) outer: usize,
    pub(super) inner: usize,
    lifetime: PhantomData<&'a [T]>,
}

// SAFETY: a view only reads what its lifetime borrows.
unsafe impl<T: Sync> Send for View<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for View<'_, T> {}

impl<'a, T: Copy> View<'a, T> {
    /// Element `(i, k)` is `data[i * outer + k * inner]`.
    pub(crate) fn new(data: &'a [T], outer: usize, inner: usize) -> Self {
        let range = data.as_ptr_range();
        Self { data: range.start, end: range.end, outer, inner, lifetime: PhantomData }
    }

    /// Elements from the first one to the end of the slice.
    fn len(&self) -> usize {
        // SAFETY: both pointers stem from one slice, and `data` is not behind `end`.
        unsafe { self.end.offset_from(self.data) as usize }
    }

    /// Whether `rows x depth` elements exist.
    pub(super) fn holds(&self, rows: usize, depth: usize) -> bool {
        rows == 0 || depth == 0 || (rows - 1) * self.outer + (depth - 1) * self.inner < self.len()
    }

    /// The number of `k`, at most `depth`, for which 16 elements follow `(0, k)` in memory.
    pub(super) fn whole_groups(&self, depth: usize) -> usize {
        match self.len().checked_sub(16) {
            Some(last) => (last / self.inner.max(1) + 1).min(depth),
            None => 0,
        }
    }

    /// Whether the elements of a column lie side by side, and those of a row do not.
    pub(crate) fn by_column(&self) -> bool {
        self.outer == 1 && self.inner != 1
    }

    /// Whether the elements of neighbouring `k`, where rows lie side by side, have so few places in the caches that they drive each other out.
    pub(super) fn crowded(&self) -> bool {
        (self.inner * size_of::<T>()).is_multiple_of(4096)
    }

    /// Row `i` of a view whose rows lie side by side.
    pub(crate) fn row(&self, i: usize, depth: usize) -> &'a [T] {
        assert!(self.inner == 1 && (depth == 0 || self.holds(i + 1, depth)));
        // SAFETY: the elements exist.
        unsafe { std::slice::from_raw_parts(self.data.add(i * self.outer), depth) }
    }

    /// Column `k` of a view whose columns lie side by side.
    pub(crate) fn column(&self, k: usize, rows: usize) -> &'a [T] {
        assert!(self.outer == 1 && (rows == 0 || self.holds(rows, k + 1)));
        // SAFETY: the elements exist.
        unsafe { std::slice::from_raw_parts(self.data.add(k * self.inner), rows) }
    }

    /// Element (`i`, `k`).
    ///
    /// # Safety
    /// It exists.
    #[inline(always)]
    pub(super) unsafe fn get(&self, i: usize, k: usize) -> T {
        // SAFETY: passed on.
        unsafe { *self.data.add(i * self.outer + k * self.inner) }
    }

    /// Copies the first row.
    pub(super) fn read_row(&self, to: &mut [T]) {
        assert!(self.holds(1, to.len()));
        for (k, element) in to.iter_mut().enumerate() {
            // SAFETY: the elements exist.
            *element = unsafe { self.get(0, k) };
        }
    }

    /// The view from element `(i, k)` on.
    pub(crate) fn offset(self, i: usize, k: usize) -> Self {
        // Clamped, so that an empty rest beyond the last element is no stray pointer.
        let start = (i * self.outer + k * self.inner).min(self.len());
        // SAFETY: `start` is at most the length of the slice.
        Self { data: unsafe { self.data.add(start) }, ..self }
    }
}
