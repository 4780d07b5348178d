//! weir-test.
