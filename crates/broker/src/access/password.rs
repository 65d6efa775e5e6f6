//! Passwords as RabbitMQ keeps them: a salt of four octets, and a hash of the salt and the
//! password.
//!
//! Invariant: no password is kept, and comparing takes a time that does not tell how much of it
//! is right.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// Octets of a salt.
pub const SALT_OCTETS: usize = 4;

/// How a password was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashingAlgorithm {
    /// RabbitMQ's default.
    #[default]
    Sha256,
    /// The longer one.
    Sha512,
}

/// Why a password's hash cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PasswordHashError {
    /// Too weak to be taken.
    #[error(
        "passwords hashed with MD5 are not taken: give this user a new password in RabbitMQ and export again"
    )]
    Md5,
    /// Of no algorithm that is known.
    #[error("hashing algorithm '{0}' is not known: it is rabbit_password_hashing_sha256 or _sha512")]
    UnknownAlgorithm(String),
    /// Not as long as the algorithm's are.
    #[error("a password hash of {octets} octets is not of {algorithm}, which has {wanted} with the salt")]
    Length {
        /// How many there are.
        octets: usize,
        /// The algorithm.
        algorithm: HashingAlgorithm,
        /// How many it has.
        wanted: usize,
    },
}

impl HashingAlgorithm {
    /// The algorithm of that name in RabbitMQ.
    ///
    /// # Errors
    /// [`PasswordHashError`] for MD5 and for what is not known.
    pub fn from_name(name: &str) -> Result<Self, PasswordHashError> {
        match name {
            "rabbit_password_hashing_sha256" => Ok(Self::Sha256),
            "rabbit_password_hashing_sha512" => Ok(Self::Sha512),
            "rabbit_password_hashing_md5" => Err(PasswordHashError::Md5),
            other => Err(PasswordHashError::UnknownAlgorithm(other.to_owned())),
        }
    }

    const fn hash_octets(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn hash(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::new_with_prefix(salt).chain_update(password).finalize().to_vec(),
            Self::Sha512 => Sha512::new_with_prefix(salt).chain_update(password).finalize().to_vec(),
        }
    }
}

impl fmt::Display for HashingAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
        })
    }
}

/// A salt and the hash behind it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    algorithm: HashingAlgorithm,
    octets: Box<[u8]>,
}

impl PasswordHash {
    /// Hashes a password by RabbitMQ's default algorithm.
    #[must_use]
    pub fn new(password: &str, salt: [u8; SALT_OCTETS]) -> Self {
        let algorithm = HashingAlgorithm::default();
        let octets = [&salt[..], &algorithm.hash(&salt, password.as_bytes())].concat();
        Self { algorithm, octets: octets.into() }
    }

    /// A hash that was made before.
    ///
    /// # Errors
    /// [`PasswordHashError::Length`] when it cannot be one of that algorithm.
    pub fn from_octets(algorithm: HashingAlgorithm, octets: &[u8]) -> Result<Self, PasswordHashError> {
        let wanted = SALT_OCTETS + algorithm.hash_octets();
        if octets.len() != wanted {
            return Err(PasswordHashError::Length { octets: octets.len(), algorithm, wanted });
        }
        Ok(Self { algorithm, octets: octets.into() })
    }

    /// How it was hashed.
    #[must_use]
    pub const fn algorithm(&self) -> HashingAlgorithm {
        self.algorithm
    }

    /// The salt and the hash.
    #[must_use]
    pub fn as_octets(&self) -> &[u8] {
        &self.octets
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let (salt, hash) = self.octets.split_at(SALT_OCTETS);
        self.algorithm.hash(salt, password).ct_eq(hash).into()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash of `builder` that RabbitMQ 3.10.8 made.
    const BUILDER: [u8; 36] = [
        0x70, 0xdc, 0xdc, 0x9b, 0xd7, 0xf2, 0x53, 0x90, 0x76, 0x1f, 0x8c, 0xee, 0x21, 0x1c, 0xce, 0xf4, 0x0d,
        0x3a, 0x65, 0x45, 0x14, 0x8b, 0x56, 0x31, 0xfa, 0xa4, 0x85, 0xf2, 0x30, 0xeb, 0x6f, 0x8c, 0x65, 0xee,
        0x61, 0x7a,
    ];

    #[test]
    fn rabbitmqs_hashes_are_read() {
        let hash = PasswordHash::from_octets(HashingAlgorithm::Sha256, &BUILDER).unwrap();
        assert!(hash.matches(b"builder") && !hash.matches(b"builde") && !hash.matches(b""));
    }

    #[test]
    fn ours_is_made_the_same_way() {
        let salt = BUILDER[..SALT_OCTETS].try_into().unwrap();
        assert_eq!(PasswordHash::new("builder", salt).as_octets(), BUILDER);
    }

    #[test]
    fn the_longer_algorithm_works_too() {
        let algorithm = HashingAlgorithm::Sha512;
        let octets = [&[1, 2, 3, 4], &algorithm.hash(&[1, 2, 3, 4], b"secret")[..]].concat();
        let hash = PasswordHash::from_octets(algorithm, &octets).unwrap();
        assert!(hash.matches(b"secret") && !hash.matches(b"Secret"));
    }

    #[test]
    fn hashes_that_cannot_be_are_refused() {
        let refused = PasswordHash::from_octets(HashingAlgorithm::Sha512, &BUILDER).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a password hash of 36 octets is not of rabbit_password_hashing_sha512, which has 68 with the salt"
        );
        assert_eq!(HashingAlgorithm::from_name("rabbit_password_hashing_md5"), Err(PasswordHashError::Md5));
        assert!(HashingAlgorithm::from_name("none").is_err());
    }
}
