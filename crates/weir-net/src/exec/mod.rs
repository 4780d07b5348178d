//! A small local executor for guests that are written as futures (h2).
