//! weir-cluster.
