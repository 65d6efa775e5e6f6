//! The Leveret message broker as a library.
