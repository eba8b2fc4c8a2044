//! A source file as far as the rules care: which paths it names, whether it is asynchronous, whether it is unsafe.
//!
//! Paths are resolved against the module they stand in (`super::store` in `app` is `crate::store`). What is compiled for tests only is
//! left out: tests may reach for anything. Inside macros, whatever looks like a path counts as one.

use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, Token, UseTree};

/// Features that only a package's own tests turn on.
const TEST_FEATURES: [&str; 1] = ["mutate"];

/// One path that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    /// Everything below the path, or the path under another name: what comes next is not seen.
    pub(crate) opens: bool,
}

/// One source file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// `["app", "upload"]` for src/app/upload.rs; empty for src/lib.rs, src/main.rs and whatever lies outside `src`.
    pub(crate) module: Vec<String>,
    pub(crate) in_src: bool,
    pub(crate) named: Vec<Named>,
    pub(crate) asynchronous: bool,
    pub(crate) unsafe_code: Vec<String>,
    pub(crate) no_std: bool,
}

impl File {
    /// The top module a file lies in, when it lies in one: `app` for src/app/mod.rs and src/app.rs alike.
    pub(crate) fn layer(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    pub(crate) fn is_crate_root(&self) -> bool {
        self.in_src && self.path.ends_with("src/lib.rs")
    }
}

/// Every Rust file of a package, parsed: `src`, and its tests, examples, benches and build script.
pub(crate) fn files(package: &Path) -> Vec<File> {
    let mut paths: Vec<PathBuf> = vec![package.join("build.rs")];
    for folder in ["src", "build", "tests", "examples", "benches"] {
        let below = crate::files(&package.join(folder));
        paths.extend(
            below
                .iter()
                .filter(|file| !file.starts_with("fixtures"))
                .map(|file| package.join(folder).join(file)),
        );
    }
    paths.retain(|path| path.is_file() && path.extension().is_some_and(|extension| extension == "rs"));
    paths.sort();
    paths.into_iter().map(|path| file(package, path)).collect()
}

fn file(package: &Path, path: PathBuf) -> File {
    let text = std::fs::read_to_string(&path).expect("a file that was just listed");
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let inside = path.strip_prefix(package.join("src")).ok();
    let module = inside.map(module_of).unwrap_or_default();
    let mut reader = Reader { module: module.clone(), ..Reader::default() };
    let for_tests_only = inside.is_none() || module.iter().any(|part| part == "tests");
    reader.tests_count = for_tests_only;
    reader.visit_file(&parsed);
    File {
        in_src: !for_tests_only,
        module,
        named: reader.named,
        asynchronous: reader.asynchronous,
        unsafe_code: reader.unsafe_code,
        no_std: parsed.attrs.iter().any(|attribute| attribute.path().is_ident("no_std")),
        path,
    }
}

/// `app/upload.rs` and `app/upload/mod.rs` are both `["app", "upload"]`.
fn module_of(relative: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] || parts == ["main"] {
        parts.pop();
    }
    parts
}

#[derive(Default)]
struct Reader {
    module: Vec<String>,
    tests_count: bool,
    named: Vec<Named>,
    asynchronous: bool,
    unsafe_code: Vec<String>,
}

impl Reader {
    fn name(&mut self, mut path: Vec<String>, opens: bool) {
        let mut base = self.module.clone();
        match path.first().map(String::as_str) {
            Some("self") => {
                path.remove(0);
            }
            Some("super") => {
                while path.first().is_some_and(|part| part == "super") {
                    path.remove(0);
                    base.pop();
                }
            }
            _ => return self.named.push(Named { path, opens }),
        }
        let path = std::iter::once("crate".to_owned()).chain(base).chain(path).collect();
        self.named.push(Named { path, opens });
    }

    fn tree(&mut self, tree: &UseTree, mut before: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before);
            }
            // `use kit::{self}` brings the module itself: what it is used for is seen where it is used.
            UseTree::Name(name) if name.ident == "self" => self.name(before, false),
            UseTree::Name(name) => {
                before.push(name.ident.to_string());
                self.name(before, false);
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    before.push(rename.ident.to_string());
                }
                self.name(before, rename.rename != "_");
            }
            UseTree::Glob(_) => self.name(before, true),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before.clone())),
        }
    }

    /// In a macro's tokens: identifiers joined by `::` are a path.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    let word = word.to_string();
                    self.asynchronous |= word == "async" || word == "await";
                    if word == "unsafe" {
                        self.unsafe_code.push("unsafe in a macro".to_owned());
                    }
                    if colons != 2 {
                        self.token_path(&mut path);
                    }
                    path.push(word);
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.token_path(&mut path);
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    colons = 0;
                    self.token_path(&mut path);
                }
            }
        }
        self.token_path(&mut path);
    }

    fn token_path(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.name(path, false);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if self.tests_count || !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, Vec::new());
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.name(vec![item.ident.to_string()], true);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.name(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            let text = list.tokens.to_string();
            let lifts = attribute.path().is_ident("allow") || attribute.path().is_ident("expect");
            if attribute.path().is_ident("unsafe") || (lifts && text.contains("unsafe_code")) {
                self.unsafe_code.push("an attribute that allows unsafe code".to_owned());
            }
            if attribute.path().is_ident("derive") {
                self.tokens(list.tokens.clone());
            }
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.asynchronous |= signature.asyncness.is_some();
        if signature.unsafety.is_some() {
            self.unsafe_code.push(format!("unsafe fn {}", signature.ident));
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.asynchronous = true;
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, awaited: &'ast syn::ExprAwait) {
        self.asynchronous = true;
        visit::visit_expr_await(self, awaited);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_code.push("an unsafe block".to_owned());
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if item.unsafety.is_some() {
            self.unsafe_code.push("unsafe impl".to_owned());
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if item.unsafety.is_some() {
            self.unsafe_code.push(format!("unsafe trait {}", item.ident));
        }
        visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        self.unsafe_code.push("extern functions".to_owned());
        visit::visit_item_foreign_mod(self, item);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[cfg(test)]`, or a feature of tests; `any(test, …)` counts only when all of it is.
fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<Meta>().is_ok_and(|condition| implies_test(&condition))
}

fn implies_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::NameValue(pair) => {
            let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(value), .. }) = &pair.value else {
                return false;
            };
            pair.path.is_ident("feature") && TEST_FEATURES.contains(&value.value().as_str())
        }
        Meta::List(list) => {
            let Ok(parts) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else {
                return false;
            };
            (list.path.is_ident("all") && parts.iter().any(implies_test))
                || (list.path.is_ident("any") && !parts.is_empty() && parts.iter().all(implies_test))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(module: &[&str], text: &str) -> Vec<String> {
        let mut reader =
            Reader { module: module.iter().map(|part| (*part).to_owned()).collect(), ..Reader::default() };
        reader.visit_file(&syn::parse_file(text).expect("Rust"));
        reader
            .named
            .iter()
            .map(|n| format!("{}{}", n.path.join("::"), if n.opens { "::*" } else { "" }))
            .collect()
    }

    #[test]
    fn paths_are_resolved_where_they_stand() {
        assert_eq!(
            read(&["app", "upload"], "use super::super::store::{rows::A, B as _};"),
            ["crate::store::rows::A", "crate::store::B"]
        );
        assert_eq!(read(&["app"], "fn f() { self::x::y() }"), ["crate::app::x::y"]);
        assert_eq!(read(&["app"], "mod inner { use super::super::link; }"), ["crate::link"]);
        assert_eq!(read(&["app"], "use kit as k; use kit::*;"), ["kit::*", "kit::*"]);
        assert_eq!(read(&["app"], "fn f() { assert!(tonic::Code::Ok == x) }"), ["tonic::Code::Ok"]);
        assert_eq!(read(&["app"], "fn f() { say!(\"a::b\", x: c, {super::d(e)}) }"), ["crate::d"]);
    }

    #[test]
    fn what_is_compiled_for_tests_only_does_not_count() {
        assert_eq!(read(&[], "#[cfg(test)] mod tests { use tonic::Code; }"), [""; 0]);
        assert_eq!(read(&[], "#[cfg(all(test, unix))] use tonic::Code;"), [""; 0]);
        assert_eq!(read(&[], "#[cfg(any(test, unix))] use tonic::Code;"), ["tonic::Code"]);
        assert_eq!(read(&[], "#[cfg(not(test))] use tonic::Code;"), ["tonic::Code"]);
    }
}
