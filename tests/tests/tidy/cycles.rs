//! Finds import cycles between sibling modules, which are files and folders in the same folder of a crate's `src`.
//! A module and its submodules may import each other; tests and fakes may import everything.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    rules::Violation,
    source::{Kind, Named, Source},
};

/// A module's path from the top of its crate, which itself is empty.
type Module = Vec<String>;

/// The modules of one crate, with their sources.
struct Crate<'a> {
    modules: BTreeMap<Module, &'a Source>,
}

/// The first line at which one module imports a sibling.
struct Import {
    file: String,
    line: usize,
    path: String,
}

/// The imports between the modules of one level, by importing and imported module.
type Level = BTreeMap<(String, String), Import>;

/// Returns every import between siblings that is part of a cycle.
pub(crate) fn check(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for one in crates(sources) {
        for imports in one.levels().values() {
            for ((from, to), import) in imports.iter().filter(|((from, to), _)| reaches(imports, to, from)) {
                let why = format!("`{from}` imports `{}`, and `{to}` needs `{from}`: a cycle of siblings", import.path);
                found.push(Violation { file: import.file.clone(), line: import.line, why });
            }
        }
    }
    found
}

fn crates(sources: &[Source]) -> Vec<Crate<'_>> {
    let mut found: BTreeMap<&str, BTreeMap<Module, &Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.kind == Kind::Product) {
        let Some(end) = source.file.find("/src/").map(|at| at + "/src".len()) else { continue };
        let mut module: Module = source.file[end + 1..].trim_end_matches(".rs").split('/').map(String::from).collect();
        module.pop_if(|last| matches!(last.as_str(), "lib" | "main" | "mod"));
        found.entry(&source.file[..end]).or_default().insert(module, source);
    }
    found.into_values().map(|modules| Crate { modules }).collect()
}

impl Crate<'_> {
    /// Returns the imports between siblings, by their parent module.
    fn levels(&self) -> BTreeMap<Module, Level> {
        let mut levels: BTreeMap<Module, Level> = BTreeMap::new();
        for (module, source) in &self.modules {
            for named in product_names(source) {
                let Some(target) = self.target(module, &named.path) else { continue };
                let shared = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
                // Otherwise one of them is an ancestor of the other.
                let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) else { continue };
                let import = Import { file: source.file.clone(), line: named.line, path: named.path.join("::") };
                let level = levels.entry(module[..shared].to_vec()).or_default();
                level.entry((from.clone(), to.clone())).or_insert(import);
            }
        }
        levels
    }

    /// Returns the module that `path` denotes in `from`, if it begins with `crate`, `super` or `self`.
    fn target(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (mut module, mut rest) = match path[0].as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from.clone(), path),
            _ => return None,
        };
        while let [first, after @ ..] = rest
            && first == "super"
        {
            module.pop();
            rest = after;
        }
        Some(self.descend(module, rest))
    }

    /// Returns the innermost module on `path` below `module`.
    fn descend(&self, mut module: Module, path: &[String]) -> Module {
        for part in path {
            let child: Module = module.iter().chain([part]).cloned().collect();
            if !self.modules.contains_key(&child) {
                break;
            }
            module = child;
        }
        module
    }
}

/// Returns the paths in product code of `source`, without those that only restrict visibility.
fn product_names(source: &Source) -> impl Iterator<Item = &Named> {
    let is = move |at: Option<usize>, word: &str| at.is_some_and(|at| source.names[at].path == [word]);
    let visibility = move |at: usize| is(at.checked_sub(1), "in") && is(at.checked_sub(2), "pub");
    let product = move |(at, named): &(usize, &Named)| named.kind == Kind::Product && !visibility(*at);
    source.names.iter().enumerate().filter(product).map(|(_, named)| named)
}

/// Returns whether `to` can be reached from `from` along `imports`.
fn reaches(imports: &Level, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        let next = imports.keys().filter(|(importer, _)| importer == module).map(|(_, imported)| imported.as_str());
        open.extend(next.filter(|imported| seen.insert(imported)));
    }
    seen.contains(to)
}
