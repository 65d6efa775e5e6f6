//! Users, virtual hosts and permissions.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use leveret_broker::{
    access::{
        HashingAlgorithm, Limit, PasswordHash, PasswordHashError, Permission, SALT_OCTETS, TopicPermission,
        User, UserLimits, VhostLimits,
    },
    definitions::{
        DefinitionError, Definitions, PermissionDefinition, TopicPermissionDefinition, VhostDefinition,
    },
    model::queue_arguments::QueueType,
};
use serde_json::Value;

use super::fields::Object;

type Result<T> = std::result::Result<T, DefinitionError>;

/// RabbitMQ's user who may log in from this machine only.
const LOOPBACK_USER: &str = "guest";

/// Versions whose exports do not say that their passwords are hashed with MD5.
const MD5_VERSIONS: [&str; 6] = ["3.0.", "3.1.", "3.2.", "3.3.", "3.4.", "3.5."];

/// Hashes a password with a salt of the operating system's.
pub(crate) fn hashed(password: &str) -> PasswordHash {
    let mut salt = [0; SALT_OCTETS];
    getrandom::fill(&mut salt).expect("the operating system gives random octets");
    PasswordHash::new(password, salt)
}

pub(super) fn read_users(file: &Object<'_>, version: &str, typed: &mut Definitions) -> Result<()> {
    for user in file.objects("users")? {
        let name = user.text("name")?;
        let user = user.named(format!("user '{name}'"));
        let tags = match user.words("tags")? {
            Some(tags) => tags,
            // How versions before 3.0 wrote it.
            None if user.flag_or("administrator", false)? => vec!["administrator".into()],
            None => return Err(user.error("it has no 'tags'")),
        };
        typed.users.push(User {
            name: name.into(),
            password: password(&user, version)?,
            tags,
            limits: user_limits(&user)?,
            loopback_only: name == LOOPBACK_USER,
        });
        read_own_permissions(&user, name, typed)?;
        user.finish();
    }
    Ok(())
}

fn password(user: &Object<'_>, version: &str) -> Result<Option<PasswordHash>> {
    let algorithm = match user.find("hashing_algorithm") {
        Some(_) => HashingAlgorithm::from_name(user.text("hashing_algorithm")?),
        None if MD5_VERSIONS.iter().any(|old| version.starts_with(old)) => Err(PasswordHashError::Md5),
        None => Ok(HashingAlgorithm::default()),
    };
    let algorithm = algorithm.map_err(|error| user.error(error.to_string()))?;
    match (user.find("password"), user.find("password_hash")) {
        (Some(_), Some(_)) => Err(user.error("it has both a password and a password_hash")),
        (Some(_), None) => Ok(Some(user.text("password")?).filter(|text| !text.is_empty()).map(hashed)),
        (None, Some(_)) => {
            let octets = BASE64_STANDARD.decode(user.text("password_hash")?);
            let octets = octets.map_err(|error| user.error(format!("password_hash: {error}")))?;
            if octets.is_empty() {
                return Ok(None);
            }
            PasswordHash::from_octets(algorithm, &octets)
                .map(Some)
                .map_err(|error| user.error(error.to_string()))
        }
        (None, None) => Ok(None),
    }
}

fn user_limits(user: &Object<'_>) -> Result<UserLimits> {
    let mut limits = UserLimits::default();
    for (key, value) in user.pairs("limits")? {
        let place = match key {
            "max-connections" => &mut limits.connections_max,
            "max-channels" => &mut limits.channels_max,
            other => return Err(user.error(unknown_limit(other))),
        };
        *place = Some(limit(user, key, value)?);
    }
    Ok(limits)
}

/// The limits of a virtual host.
pub(super) fn vhost_limits(object: &Object<'_>, key: &str) -> Result<VhostLimits> {
    let mut limits = VhostLimits::default();
    for (key, value) in object.pairs(key)? {
        let place = match key {
            "max-connections" => &mut limits.connections_max,
            "max-queues" => &mut limits.queues_max,
            other => return Err(object.error(unknown_limit(other))),
        };
        *place = Some(limit(object, key, value)?);
    }
    Ok(limits)
}

fn unknown_limit(key: &str) -> String {
    format!("a limit '{key}' is not known")
}

fn limit(object: &Object<'_>, key: &str, value: &Value) -> Result<Limit> {
    value.as_i64().map(Limit).ok_or_else(|| object.error(format!("the limit '{key}' is not a whole number")))
}

pub(super) fn read_vhosts(file: &Object<'_>, typed: &mut Definitions) -> Result<()> {
    for vhost in file.objects("vhosts")? {
        let name = vhost.text("name")?;
        let vhost = vhost.named(format!("vhost '{name}'"));
        let mut definition =
            VhostDefinition { limits: vhost_limits(&vhost, "limits")?, ..VhostDefinition::new(name) };
        if let Some(metadata) = vhost.find("metadata") {
            let metadata = Object::new(format!("metadata of vhost '{name}'"), metadata)?;
            describe(&metadata, &mut definition)?;
            metadata.finish();
        }
        describe(&vhost, &mut definition)?;
        definition.tracing = vhost.flag_or("tracing", false)?;
        typed.vhosts.push(definition);
        vhost.finish();
    }
    Ok(())
}

fn describe(object: &Object<'_>, vhost: &mut VhostDefinition) -> Result<()> {
    if object.find("description").is_some() {
        vhost.description = object.text("description")?.into();
    }
    if let Some(tags) = object.words("tags")? {
        vhost.tags = tags;
    }
    // Some versions of RabbitMQ wrote that there is none as a word.
    let kind = object.text_or("default_queue_type", "undefined")?;
    if kind != "undefined" {
        let known = QueueType::from_name(kind);
        vhost.default_queue_type =
            Some(known.ok_or_else(|| object.error(format!("'{kind}' is not a type of queue")))?);
    }
    Ok(())
}

fn permission(object: &Object<'_>) -> Result<Permission> {
    Permission::parse(object.text("configure")?, object.text("write")?, object.text("read")?)
        .map_err(|error| object.error(error.to_string()))
}

/// Permissions that stand with their user, by virtual host.
fn read_own_permissions(user: &Object<'_>, name: &str, typed: &mut Definitions) -> Result<()> {
    for (vhost, value) in user.pairs("permissions")? {
        let object = Object::new(format!("permission of user '{name}' in vhost '{vhost}'"), value)?;
        let permission = permission(&object)?;
        typed.permissions.push(PermissionDefinition { user: name.into(), vhost: vhost.into(), permission });
        object.finish();
    }
    Ok(())
}

pub(super) fn read_permissions(file: &Object<'_>, typed: &mut Definitions) -> Result<()> {
    for object in file.objects("permissions")? {
        let (user, vhost) = (object.text("user")?, object.text("vhost")?);
        let object = object.named(format!("permission of user '{user}' in vhost '{vhost}'"));
        let permission = permission(&object)?;
        typed.permissions.push(PermissionDefinition { user: user.into(), vhost: vhost.into(), permission });
        object.finish();
    }
    Ok(())
}

pub(super) fn read_topic_permissions(file: &Object<'_>, typed: &mut Definitions) -> Result<()> {
    for object in file.objects("topic_permissions")? {
        let (user, vhost) = (object.text("user")?, object.text("vhost")?);
        let object = object.named(format!("topic permission of user '{user}' in vhost '{vhost}'"));
        let permission = TopicPermission::parse(object.text("write")?, object.text("read")?)
            .map_err(|error| object.error(error.to_string()))?;
        typed.topic_permissions.push(TopicPermissionDefinition {
            user: user.into(),
            vhost: vhost.into(),
            exchange: object.text("exchange")?.into(),
            permission,
        });
        object.finish();
    }
    Ok(())
}
