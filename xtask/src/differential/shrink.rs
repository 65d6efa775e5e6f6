//! A smaller script that shows the same difference.
//!
//! Leaves out steps, then simplifies what is left; knows nothing of what steps mean.
//! Invariant: what comes out was seen to differ.

use serde_json::Value;

use super::operation::{Script, Step};

/// Runs that one shrinking may take.
const TRIES_MAX: usize = 250;

/// The smallest script found for which `differs` holds.
pub(super) fn shrink(script: &Script, mut differs: impl FnMut(&Script) -> bool) -> Script {
    let mut tries = TRIES_MAX;
    let mut differs = |script: &Script| {
        tries = tries.saturating_sub(1);
        tries > 0 && differs(script)
    };
    let mut smallest = script.clone();
    loop {
        let before = smallest.clone();
        leave_out_steps(&mut smallest, &mut differs);
        merge_places(&mut smallest, &mut differs);
        simplify_steps(&mut smallest, &mut differs);
        if smallest == before {
            return smallest;
        }
    }
}

type Differs<'a> = dyn FnMut(&Script) -> bool + 'a;

/// Leaves out runs of steps, long ones first.
fn leave_out_steps(script: &mut Script, differs: &mut Differs<'_>) {
    let mut length = script.steps.len().div_ceil(2);
    while length > 0 {
        let mut at = 0;
        while at < script.steps.len() {
            let mut smaller = script.clone();
            smaller.steps.drain(at..(at + length).min(script.steps.len()));
            if differs(&smaller) { *script = smaller } else { at += length }
        }
        length /= 2;
    }
}

/// Puts steps on the first connection and the first channel.
fn merge_places(script: &mut Script, differs: &mut Differs<'_>) {
    let changes: [fn(&mut Step); 2] = [
        |step| step.connection = 0,
        |step| {
            if step.channel > 1 {
                step.channel = 1;
            }
        },
    ];
    for change in changes {
        let mut smaller = script.clone();
        smaller.steps.iter_mut().for_each(change);
        if smaller != *script && differs(&smaller) {
            *script = smaller;
        }
    }
}

fn simplify_steps(script: &mut Script, differs: &mut Differs<'_>) {
    for at in 0..script.steps.len() {
        let mut number = 0;
        while let Some(simpler) = simplified(&script.steps[at], number) {
            let mut smaller = script.clone();
            smaller.steps[at] = simpler;
            if differs(&smaller) { *script = smaller } else { number += 1 }
        }
    }
}

/// The step with one thing less: a flag off, an element of a list left out. As many as there are.
fn simplified(step: &Step, number: usize) -> Option<Step> {
    let mut value = serde_json::to_value(step).ok()?;
    let mut left = number;
    simplify(&mut value, &mut left).then(|| serde_json::from_value(value).ok())?
}

/// Makes the `left`th simplification in a value; whether there was one.
fn simplify(value: &mut Value, left: &mut usize) -> bool {
    match value {
        Value::Bool(flag) if *flag => {
            let is_it = *left == 0;
            *left = left.wrapping_sub(1);
            *flag = !is_it;
            is_it
        }
        Value::Array(elements) => {
            // A field is a pair, which has no smaller form.
            let is_pair = elements.len() == 2 && elements[0].is_string();
            if !is_pair {
                if *left < elements.len() {
                    elements.remove(*left);
                    return true;
                }
                *left -= elements.len();
            }
            elements.iter_mut().any(|element| simplify(element, left))
        }
        Value::Object(fields) => fields.values_mut().any(|field| simplify(field, left)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::{
        field::Field,
        operation::{Operation, Setup},
    };

    fn declare(queue: &str) -> Step {
        let arguments = vec![("a".to_owned(), Field::I32(1)), ("b".to_owned(), Field::I32(2))];
        let operation = Operation::DeclareQueue {
            queue: queue.to_owned(),
            passive: false,
            durable: true,
            exclusive: true,
            auto_delete: false,
            nowait: false,
            arguments,
        };
        Step { connection: 1, channel: 3, operation }
    }

    #[test]
    fn only_what_matters_is_left() {
        let setup = Setup { frame_max: 4096, cancel_notify: true };
        let steps = (0..40).map(|number| declare(&format!("q{number}"))).collect();
        let script = Script { seed: 1, connections: vec![setup.clone(), setup], steps };
        // Two steps matter, and of the second one flag and one argument.
        let differs = |script: &Script| {
            let text = serde_json::to_string(&script.steps).unwrap();
            let last =
                script.steps.last().map(|step| serde_json::to_string(step).unwrap()).unwrap_or_default();
            text.contains("\"q7\"")
                && last.contains("\"q31\"")
                && last.contains("\"durable\":true")
                && last.contains("[\"b\",")
        };
        assert!(!differs(&script));
        let mut script = script;
        script.steps.truncate(32);
        let smallest = shrink(&script, differs);
        assert_eq!(smallest.steps.len(), 2);
        let text = serde_json::to_string(&smallest.steps[1]).unwrap();
        assert!(!text.contains("\"exclusive\":true") && !text.contains("[\"a\","), "{text}");
        assert_eq!((smallest.steps[1].connection, smallest.steps[1].channel), (0, 1));
        assert!(differs(&smallest));
    }
}
