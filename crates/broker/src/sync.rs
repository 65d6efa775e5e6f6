//! What connections' threads share: locks and atomics, and loom's in their place while it
//! model-checks (`cargo xtask loom`).
//!
//! Taken from here by what crosses from one connection's thread to another's, and by what that
//! locks meanwhile. Invariant: outside the model checks these are the real ones and nothing else.

#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};

#[cfg(not(all(test, loom)))]
pub(crate) use parking_lot::{Mutex, RwLock};

#[cfg(all(test, loom))]
pub(crate) use self::checked::{Mutex, RwLock};
#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64};

/// Loom's locks, which poison as the standard library's do, with the methods of parking_lot's.
#[cfg(all(test, loom))]
mod checked {
    use loom::sync::{self, MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a panic ends the whole check")
        }
    }

    #[derive(Debug)]
    pub(crate) struct RwLock<T>(sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect("a panic ends the whole check")
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect("a panic ends the whole check")
        }
    }
}
