//! The paths that a Rust file names, such as `std::fs::File`, wherever they stand.
//!
//! Works on tokens, so that comments and strings do not count and what stands in a macro does. Resolves
//! `crate`, `self` and `super`, but no aliases: `use std::fs as f` names `std::fs`, and then `f::read` nothing.
//! Invariant: a group, as in `std::{fs, net}`, names each of its members in full.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path of two or more segments, and the line it begins on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) path: String,
    pub(super) line: usize,
}

/// All paths in the file at `file` (relative to the repository, for its place among the modules).
pub(super) fn named_in(file: &str, text: &str) -> Result<Vec<NamedPath>> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut walk = Walk { module: module_of(file), found: Vec::new() };
    walk.tokens(tokens, &[]);
    Ok(walk.found)
}

/// The module that a file is: `crates/wire/src/frame/header.rs` is `frame::header`.
fn module_of(file: &str) -> Vec<String> {
    let below_src = file.rsplit_once("src/").map_or(file, |(_, rest)| rest);
    let names = below_src.trim_end_matches(".rs").split('/');
    names.filter(|name| !matches!(*name, "lib" | "main" | "mod")).map(str::to_owned).collect()
}

struct Walk {
    module: Vec<String>,
    found: Vec<NamedPath>,
}

impl Walk {
    /// Looks at `tokens`; each path in them goes on from `prefix`, which is not empty within a group of a path.
    fn tokens(&mut self, tokens: TokenStream, prefix: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = match inline_module(&tokens[at..]) {
                Some((name, body)) => {
                    self.module.push(name);
                    self.tokens(body, &[]);
                    self.module.pop();
                    at + 3
                }
                None => self.token(&tokens, at, prefix),
            };
        }
    }

    /// Looks at the token at `at`, and gives where to go on.
    fn token(&mut self, tokens: &[TokenTree], at: usize, prefix: &[String]) -> usize {
        match &tokens[at] {
            TokenTree::Group(group) => self.tokens(group.stream(), &[]),
            // An alias is a new name, not one that was named.
            TokenTree::Ident(ident) if ident == "as" && !prefix.is_empty() => return at + 2,
            TokenTree::Ident(_) => return self.path(tokens, at, prefix),
            _ => {}
        }
        at + 1
    }

    fn path(&mut self, tokens: &[TokenTree], start: usize, prefix: &[String]) -> usize {
        let mut segments = prefix.to_vec();
        let line = tokens[start].span().start().line;
        let mut at = start;
        while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
            segments.push(ident.to_string());
            at += 1;
            if !is_path_separator(&tokens[at..]) {
                break;
            }
            at += 2;
        }
        match tokens.get(at) {
            Some(TokenTree::Group(group)) if is_group_of_path(tokens, at) => {
                self.tokens(group.stream(), &segments);
                at + 1
            }
            _ => {
                self.note(&segments, line);
                at
            }
        }
    }

    fn note(&mut self, segments: &[String], line: usize) {
        let resolved = self.resolve(segments);
        if resolved.len() > 1 {
            self.found.push(NamedPath { path: resolved.join("::"), line });
        }
    }

    fn resolve(&self, segments: &[String]) -> Vec<String> {
        let relative = matches!(segments[0].as_str(), "self" | "super");
        if !relative {
            return segments.to_vec();
        }
        let mut resolved = vec!["crate".to_owned()];
        resolved.extend(self.module.iter().cloned());
        for segment in segments {
            match segment.as_str() {
                "self" => {}
                "super" => drop(resolved.pop()),
                name => resolved.push(name.to_owned()),
            }
        }
        resolved
    }
}

/// `mod name { ... }` at the start of `tokens`.
fn inline_module(tokens: &[TokenTree]) -> Option<(String, TokenStream)> {
    match tokens {
        [TokenTree::Ident(keyword), TokenTree::Ident(name), TokenTree::Group(body), ..]
            if keyword == "mod" =>
        {
            Some((name.to_string(), body.stream()))
        }
        _ => None,
    }
}

fn is_path_separator(tokens: &[TokenTree]) -> bool {
    let is_colon =
        |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(it)) if it.as_char() == ':');
    is_colon(tokens.first()) && is_colon(tokens.get(1))
}

fn is_group_of_path(tokens: &[TokenTree], at: usize) -> bool {
    let braces = matches!(&tokens[at], TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    braces && at >= 2 && is_path_separator(&tokens[at - 2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, text: &str, expected: &[(&str, usize)]) {
        let found = named_in(file, text).unwrap();
        let found: Vec<_> = found.iter().map(|named| (named.path.as_str(), named.line)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn paths_are_found_wherever_they_stand() {
        check(
            "src/lib.rs",
            "use std::fs;\nuse std::net::TcpStream as S;",
            &[("std::fs", 1), ("std::net::TcpStream", 2)],
        );
        check("src/lib.rs", "fn f() { ::std::fs::read(p); }", &[("std::fs::read", 1)]);
        check("src/lib.rs", "fn f(x: Vec<std::fs::File>) {}", &[("std::fs::File", 1)]);
        check("src/lib.rs", "assert!(\n  Instant::now() > t);", &[("Instant::now", 2)]);
        check("src/lib.rs", "#[tokio::test] fn f() {}", &[("tokio::test", 1)]);
    }

    #[test]
    fn members_of_a_group_are_named_in_full() {
        let text = "use std::{fs, net::TcpStream as S, io::{self, Read}};";
        let expected =
            [("std::fs", 1), ("std::net::TcpStream", 1), ("std::io::self", 1), ("std::io::Read", 1)];
        check("src/lib.rs", text, &expected);
    }

    #[test]
    fn comments_strings_and_single_names_do_not_count() {
        check("src/lib.rs", "//! Not std::fs.\n// std::net\nlet rand = \"std::fs\"; x.rand();", &[]);
    }

    #[test]
    fn relative_paths_are_resolved_from_the_module_they_stand_in() {
        check(
            "crates/broker/src/model/queue.rs",
            "use super::super::store::Log;",
            &[("crate::store::Log", 1)],
        );
        check("crates/broker/src/model/mod.rs", "use super::store;", &[("crate::store", 1)]);
        check(
            "crates/broker/src/model/queue.rs",
            "use self::store::X;",
            &[("crate::model::queue::store::X", 1)],
        );
        check(
            "src/a.rs",
            "mod tests { use super::super::b; }\nuse super::c;",
            &[("crate::b", 1), ("crate::c", 2)],
        );
        check("src/a.rs", "use crate::{b, c::d};", &[("crate::b", 1), ("crate::c::d", 1)]);
    }
}
