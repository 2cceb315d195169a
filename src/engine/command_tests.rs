//! Packing of rows.
