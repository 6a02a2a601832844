//! The stages one by one, from file to file.
