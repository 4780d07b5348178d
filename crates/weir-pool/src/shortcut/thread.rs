//! Numbers of threads: small ones, which threads that have ended leave to the next.

#[cfg(not(weir_loom))]
mod real {
    use std::sync::{Mutex, PoisonError};

    /// Which numbers are taken.
    static TAKEN: Mutex<Vec<bool>> = Mutex::new(Vec::new());

    struct Number(usize);

    impl Number {
        /// The least that is free.
        fn take() -> Self {
            let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
            let number = taken.iter().position(|taken| !taken).unwrap_or_else(|| {
                taken.push(false);
                taken.len() - 1
            });
            if let Some(mine) = taken.get_mut(number) {
                *mine = true;
            }
            Self(number)
        }
    }

    impl Drop for Number {
        fn drop(&mut self) {
            let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mine) = taken.get_mut(self.0) {
                *mine = false;
            }
        }
    }

    thread_local! {
        static NUMBER: Number = Number::take();
    }

    /// Of this thread; of no importance while it ends.
    #[inline]
    pub(crate) fn number() -> usize {
        NUMBER.try_with(|number| number.0).unwrap_or(0)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_number_is_of_one_thread_and_goes_to_another_when_that_ends() {
            let mine = number();
            assert_eq!(number(), mine);
            // Other tests have numbers, too.
            let mut most = 0;
            for _ in 0..200 {
                let theirs = std::thread::spawn(number).join().unwrap();
                assert_ne!(theirs, mine);
                most = most.max(theirs);
            }
            assert!(most < 150, "{most}");
        }
    }
}
#[cfg(not(weir_loom))]
pub(crate) use real::number;

/// In the models each thread says its number.
#[cfg(weir_loom)]
mod model {
    use std::cell::Cell;

    loom::thread_local! {
        static NUMBER: Cell<usize> = Cell::new(0);
    }

    pub(crate) fn number() -> usize {
        NUMBER.try_with(Cell::get).unwrap_or(0)
    }

    pub(crate) fn set_number(number: usize) {
        NUMBER.with(|mine| mine.set(number));
    }
}
#[cfg(weir_loom)]
pub(crate) use model::{number, set_number};
