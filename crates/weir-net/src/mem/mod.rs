//! The in-memory driver: virtual time, seeded faults.
