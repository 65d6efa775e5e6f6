//! What is looked at in the properties of a message before it is taken.

use leveret_wire::Properties;

use crate::{Refusal, model::queue_arguments::LIFE_MILLIS_MAX};

/// Refuses properties that RabbitMQ refuses, in its words. `user` is the only one whose name the
/// message may carry; none when it may carry any.
pub(super) fn check_properties(properties: &Properties<'_>, user: Option<&str>) -> Result<(), Refusal> {
    if let (Some(claimed), Some(user)) = (properties.user_id, user)
        && claimed.as_bytes() != user.as_bytes()
    {
        return Err(Refusal::WrongUserId { claimed: claimed.to_string(), user: user.to_owned() });
    }
    if let Some(delivery_mode) = properties.delivery_mode.filter(|mode| !matches!(mode, 1 | 2)) {
        return Err(Refusal::InvalidMessage(format!("{{delivery_mode_unknown,{delivery_mode}}}")));
    }
    match properties.expiration {
        Some(expiration) => check_expiration(expiration.as_bytes()),
        None => Ok(()),
    }
}

/// A decimal number with or without a sign, and nothing behind it.
fn check_expiration(expiration: &[u8]) -> Result<(), Refusal> {
    let text = String::from_utf8_lossy(expiration).into_owned();
    match expiration_fault(&text) {
        None => Ok(()),
        Some(reason) => Err(Refusal::InvalidExpiration { expiration: text, reason }),
    }
}

fn expiration_fault(text: &str) -> Option<String> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (digits, leftover) = unsigned.split_at(end);
    let number = if digits.is_empty() { digits } else { digits.trim_start_matches('0') };
    match digits.parse::<u64>() {
        _ if digits.is_empty() => Some("no_integer".to_owned()),
        _ if !leftover.is_empty() => Some(format!("{{leftover_string,{leftover:?}}}")),
        _ if negative && !number.is_empty() => Some(format!("{{value_negative,-{number}}}")),
        Ok(millis) if millis <= LIFE_MILLIS_MAX => None,
        _ => Some(format!("{{value_too_large,{number}}}")),
    }
}
