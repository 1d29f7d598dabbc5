//! A parsed Rust file, as input of the rules: the paths it names, its calls and its functions, each with its line and
//! whether it is product, fake or test code. Comments and strings are left out, and a tree of paths
//! (`use std::{fs, time::{Duration, Instant}}`) is expanded.

use std::{collections::BTreeSet, str::FromStr};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The kind of code of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Code that users run.
    Product,
    /// A fake of an outer interface, behind the feature `testing`.
    Fake,
    /// Code that is compiled for tests only.
    Test,
}

/// A path such as `std::time::Instant`, at a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub path: Vec<String>,
    pub line: usize,
    pub kind: Kind,
}

/// A function and its number of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
    pub kind: Kind,
}

/// A parsed file.
pub(crate) struct Source {
    /// The path from the root of the repository.
    pub file: String,
    pub text: String,
    /// The kind of the whole file.
    pub kind: Kind,
    pub names: Vec<Named>,
    /// The method calls, such as `.unwrap(`, by name.
    pub calls: Vec<Named>,
    /// The macros, such as `todo!`, by name.
    pub macros: Vec<Named>,
    pub functions: Vec<Function>,
    /// The modules in other files that are compiled for tests or as fakes only.
    pub modules: Vec<(String, Kind)>,
}

impl Source {
    /// Parses `text`, all of which is at least of kind `kind`.
    pub(crate) fn new(file: &str, text: &str, kind: Kind) -> Result<Self, String> {
        let tokens = TokenStream::from_str(text).map_err(|e| format!("{file}: is not Rust: {e}"))?;
        let whole = inner_kind(&tokens, kind);
        let mut source = Self {
            file: file.into(),
            text: text.into(),
            kind: whole,
            names: Vec::new(),
            calls: Vec::new(),
            macros: Vec::new(),
            functions: Vec::new(),
            modules: Vec::new(),
        };
        source.walk(&tokens.into_iter().collect::<Vec<_>>(), whole);
        Ok(source)
    }

    fn walk(&mut self, tokens: &[TokenTree], kind: Kind) {
        let mut at = 0;
        // The kind of the current item, by its attributes.
        let mut item = kind;
        while at < tokens.len() {
            if let Some(gated) = attribute(tokens, at) {
                item = item.max(gated);
                self.walk(&tokens[at + 1..at + 2], item);
                at += 2;
                continue;
            }
            match &tokens[at] {
                TokenTree::Group(group) => {
                    self.walk(&group.stream().into_iter().collect::<Vec<_>>(), item);
                    if group.delimiter() == Delimiter::Brace {
                        item = kind;
                    }
                    at += 1;
                }
                TokenTree::Punct(punct) if matches!(punct.as_char(), ';' | ',') => {
                    item = kind;
                    at += 1;
                }
                TokenTree::Ident(ident) => at += self.ident(&ident.to_string(), tokens, at, item),
                _ => at += 1,
            }
        }
    }

    /// Parses what begins with the identifier at `at`; returns its number of tokens.
    fn ident(&mut self, name: &str, tokens: &[TokenTree], at: usize, kind: Kind) -> usize {
        let line = tokens[at].span().start().line;
        let named = |path: Vec<String>| Named { path, line, kind };
        if name == "fn" {
            self.function(tokens, at, kind);
            return 1;
        }
        if name == "mod" && kind != Kind::Product && is(tokens, at + 2, ';') {
            self.modules.push((tokens[at + 1].to_string(), kind));
        }
        if at > 0 && is(tokens, at - 1, '.') && !(at > 1 && is(tokens, at - 2, '.')) {
            self.calls.push(named(vec![name.into()]));
            return 1;
        }
        if is(tokens, at + 1, '!') && !is(tokens, at + 2, '=') {
            self.macros.push(named(vec![name.into()]));
        }
        let (paths, taken) = paths(tokens, at);
        self.names.extend(paths.into_iter().map(|(path, line)| Named { path, line, kind }));
        taken
    }

    fn function(&mut self, tokens: &[TokenTree], at: usize, kind: Kind) {
        let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else { return };
        let body = tokens[at..]
            .iter()
            .take_while(|token| !matches!(token, TokenTree::Punct(p) if p.as_char() == ';'))
            .find_map(|token| match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
                _ => None,
            });
        let Some(body) = body else { return };
        let line = tokens[at].span().start().line;
        let lines = body.span_close().end().line + 1 - line;
        self.functions.push(Function { name: name.to_string(), line, lines, kind });
    }
}

/// Returns the paths that begin at `at`, several for a tree, and their number of tokens.
fn paths(tokens: &[TokenTree], at: usize) -> (Vec<(Vec<String>, usize)>, usize) {
    let mut path = Vec::new();
    let mut here = at;
    loop {
        match tokens.get(here) {
            Some(TokenTree::Ident(ident)) => {
                path.push(ident.to_string());
                here += 1;
            }
            Some(TokenTree::Group(group)) if !path.is_empty() && group.delimiter() == Delimiter::Brace => {
                return (tree(&path, group), here + 1 - at);
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                path.push("*".into());
                here += 1;
            }
            _ => break,
        }
        if is(tokens, here, ':') && is(tokens, here + 1, ':') {
            here += 2;
        } else {
            break;
        }
    }
    let line = tokens[at].span().start().line;
    (vec![(path, line)], (here - at).max(1))
}

fn tree(prefix: &[String], group: &Group) -> Vec<(Vec<String>, usize)> {
    let tokens: Vec<_> = group.stream().into_iter().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (inner, taken) = paths(&tokens, at);
        let alias = at > 0 && matches!(&tokens[at - 1], TokenTree::Ident(ident) if ident == "as");
        let starts = !alias && !is(&tokens, at, ',');
        for (path, line) in inner.into_iter().filter(|_| starts) {
            let rest = path.into_iter().filter(|part| part != "self");
            found.push((prefix.iter().cloned().chain(rest).collect(), line));
        }
        at += taken;
    }
    found
}

fn is(tokens: &[TokenTree], at: usize, char: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// Returns the kind that the outer attribute at `at` gives to its item, `Product` for attributes that do not matter;
/// none if there is no attribute.
fn attribute(tokens: &[TokenTree], at: usize) -> Option<Kind> {
    match (tokens.get(at), tokens.get(at + 1)) {
        (Some(TokenTree::Punct(hash)), Some(TokenTree::Group(group)))
            if hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket =>
        {
            Some(gate(&group.stream().to_string()))
        }
        _ => None,
    }
}

/// Returns the kind of a file by its `#![cfg(…)]`.
fn inner_kind(tokens: &TokenStream, kind: Kind) -> Kind {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let inner = tokens.windows(3).filter_map(|three| match three {
        [TokenTree::Punct(hash), TokenTree::Punct(bang), TokenTree::Group(group)]
            if hash.as_char() == '#' && bang.as_char() == '!' =>
        {
            Some(gate(&group.stream().to_string()))
        }
        _ => None,
    });
    inner.fold(kind, Kind::max)
}

fn gate(attribute: &str) -> Kind {
    let words: BTreeSet<&str> = attribute.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    match words {
        words if words.contains("cfg") && words.contains("not") => Kind::Product,
        words if words.contains("cfg") && words.contains("testing") => Kind::Fake,
        words if words.contains("cfg") && words.contains("test") => Kind::Test,
        words if words.contains("test") && words.len() <= 3 => Kind::Test,
        _ => Kind::Product,
    }
}
