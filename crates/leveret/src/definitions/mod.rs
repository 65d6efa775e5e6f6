//! Definitions as RabbitMQ writes them: users, virtual hosts, permissions, policies, exchanges,
//! queues and bindings in one file of JSON.
//!
//! Holds how they are read and written; what they mean is the broker's. Invariant: nothing that
//! would change what the broker does is left out without a word.

mod access;
mod fields;
mod parameters;
mod table;
mod topology;
mod write;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use leveret_broker::definitions::DefinitionError;
use leveret_broker::definitions::Definitions as Typed;
use serde_json::Value;
use thiserror::Error;

pub(crate) use self::access::hashed;
use self::fields::Object;

/// Why definitions are not taken.
#[derive(Debug, Error)]
pub enum DefinitionsError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("{origin} is not JSON")]
    Json {
        /// The file.
        origin: String,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// Something in it is wrong.
    #[error("{origin}: {definition}")]
    Definition {
        /// The file.
        origin: String,
        /// What, and what is wrong with it.
        definition: DefinitionError,
    },
}

/// What a broker has from its start.
#[derive(Debug, Clone)]
pub struct Definitions {
    pub(crate) origin: String,
    pub(crate) typed: Typed,
}

impl Definitions {
    /// Reads a file that `rabbitmqctl export_definitions` or [`Definitions::to_json`] wrote.
    ///
    /// # Errors
    /// [`DefinitionsError`] when the file cannot be read, or for the first thing in it that is
    /// wrong.
    pub fn read(path: &Path) -> Result<Self, DefinitionsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| DefinitionsError::Read { path: path.to_owned(), source })?;
        Self::parse(path.display().to_string(), &text)
    }

    /// Reads such a file's text.
    ///
    /// # Errors
    /// [`DefinitionsError`] for the first thing that is wrong.
    pub fn from_json(text: &str) -> Result<Self, DefinitionsError> {
        Self::parse("the definitions".to_owned(), text)
    }

    fn parse(origin: String, text: &str) -> Result<Self, DefinitionsError> {
        let json = match serde_json::from_str::<Value>(text) {
            Ok(json) => json,
            Err(source) => return Err(DefinitionsError::Json { origin, source }),
        };
        match typed(&json) {
            Ok(typed) => Ok(Self { origin, typed }),
            Err(definition) => Err(DefinitionsError::Definition { origin, definition }),
        }
    }

    /// The same as RabbitMQ writes it, sorted, so that equal definitions are equal texts.
    #[must_use]
    pub fn to_json(&self) -> String {
        write::json(&self.typed)
    }

    pub(crate) const fn of_broker(typed: Typed) -> Self {
        Self { origin: String::new(), typed }
    }
}

/// What an export says of itself.
const ABOUT: [&str; 7] = [
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "rabbitmq_definition_format",
    "original_cluster_name",
    "explanation",
];

fn typed(json: &Value) -> Result<Typed, DefinitionError> {
    let file = Object::new("the file".to_owned(), json)?;
    let mut typed = Typed::default();
    let version = file.text_or("rabbit_version", "")?;
    access::read_users(&file, version, &mut typed)?;
    access::read_vhosts(&file, &mut typed)?;
    access::read_permissions(&file, &mut typed)?;
    access::read_topic_permissions(&file, &mut typed)?;
    parameters::read(&file, &mut typed)?;
    topology::read_exchanges(&file, &mut typed)?;
    topology::read_queues(&file, &mut typed)?;
    topology::read_bindings(&file, &mut typed)?;
    for key in ABOUT {
        file.pass(key);
    }
    file.finish();
    Ok(typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(json: &str, wanted: &str) {
        assert_eq!(
            Definitions::from_json(json).unwrap_err().to_string(),
            format!("the definitions: {wanted}")
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        check_refused("[]", "the file: it is not an object");
        check_refused(r#"{"users": 1}"#, "the file: 'users' is not a list");
        check_refused(r#"{"users": [{}]}"#, "users, number 1: it has no 'name'");
        check_refused(r#"{"users": [{"name": "a"}]}"#, "user 'a': it has no 'tags'");
        let md5 = r#"{"users": [{"name": "a", "tags": "", "password_hash": "", "hashing_algorithm": "rabbit_password_hashing_md5"}]}"#;
        check_refused(
            md5,
            "user 'a': passwords hashed with MD5 are not taken: give this user a new password in RabbitMQ and \
             export again",
        );
        let old =
            r#"{"rabbit_version": "3.5.7", "users": [{"name": "a", "tags": "", "password_hash": "AAAA"}]}"#;
        assert!(Definitions::from_json(old).unwrap_err().to_string().contains("MD5"));
        let both = r#"{"users": [{"name": "a", "tags": "", "password_hash": "", "password": ""}]}"#;
        check_refused(both, "user 'a': it has both a password and a password_hash");
        let hash = r#"{"users": [{"name": "a", "tags": [], "password_hash": "%"}]}"#;
        assert!(Definitions::from_json(hash).is_err());
        let pattern =
            r#"{"permissions": [{"user": "a", "vhost": "/", "configure": "(", "write": "", "read": ""}]}"#;
        let error = Definitions::from_json(pattern).unwrap_err().to_string();
        assert!(
            error.starts_with("the definitions: permission of user 'a' in vhost '/': '(' is not a regular"),
            "{error}"
        );
        check_refused(
            r#"{"policies": [{"name": "p", "vhost": "/", "pattern": "", "definition": {"nope": 1}}]}"#,
            "policy 'p' in vhost '/': Validation failed: [{<<\"nope\">>,1}] are not recognised policy settings",
        );
        check_refused(
            r#"{"vhosts": [{"name": "v"}], "parameters": [{"component": "vhost-limits", "name": "limits", "vhost": "v", "value": {"max-noise": 1}}]}"#,
            "parameter 'limits' of component 'vhost-limits' in vhost 'v': a limit 'max-noise' is not known",
        );
        check_refused(
            r#"{"bindings": [{"source": "", "destination": "q", "vhost": "/", "destination_type": "user", "routing_key": ""}]}"#,
            "binding from '' to 'q' in vhost '/': 'user' is not a type of destination",
        );
    }
}
