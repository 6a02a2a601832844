//! The method as plain data and functions: instructions, aspects, feedback, selection, pairs, the loop.
