//! `#[derive(Event)]`: the name under which a type's values are stored in the log, and the field that orders them.
//!
//! A struct is one event, an enum a family of them: one handler takes the whole family, and its `match` stays
//! exhaustive. What is wrong is said at the place where it is wrong, with what to write instead.

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{
    Attribute, Data, DataEnum, DataStruct, DeriveInput, Error, Fields, LitStr, Member, parse_macro_input,
    spanned::Spanned,
};

/// No longer name of an event; the cluster's limit on names is the same.
const NAME_BYTES_MAX: usize = 512;

/// Makes a type an event.
///
/// - `name = "account.credited.v1"`: what the event is called in the log, whatever the type is called later.
///   Needed on a struct, and on each variant of an enum.
/// - `key = field`: what orders the event; events with the same key are handled one after the other. Without
///   it the event's stream does. On an enum it counts for all variants; a variant may have its own.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let expanded = expand(&input).unwrap_or_else(|error| {
        let (error, stub) = (error.into_compile_error(), stub(&input));
        quote!(#error #stub)
    });
    expanded.into()
}

/// Implements the trait for a type whose attributes are wrong, so that the one mistake is not also reported wherever
/// the type is used as an event.
fn stub(input: &DeriveInput) -> Tokens {
    let ty = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics ::evener::Event for #ty #ty_generics #where_clause {
            const NAMES: &'static [&'static str] = &[];
            fn name(&self) -> &'static str { "" }
            fn key(&self) -> ::core::option::Option<::std::borrow::Cow<'_, str>> { ::core::option::Option::None }
        }
    }
}

fn expand(input: &DeriveInput) -> syn::Result<Tokens> {
    let attributes = EventAttributes::parse(&input.attrs)?;
    let Body { names, name, key } = match &input.data {
        Data::Struct(data) => of_struct(input, data, &attributes)?,
        Data::Enum(data) => of_enum(input, data, &attributes)?,
        Data::Union(data) => {
            return Err(Error::new(data.union_token.span, "a union cannot be an event: make it a struct or an enum"));
        }
    };
    let ty = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::evener::Event for #ty #ty_generics #where_clause {
            const NAMES: &'static [&'static str] = &[#(#names),*];
            fn name(&self) -> &'static str { #name }
            fn key(&self) -> ::core::option::Option<::std::borrow::Cow<'_, str>> { #key }
        }
    })
}

/// What the trait's items are made of.
struct Body {
    names: Vec<LitStr>,
    name: Tokens,
    key: Tokens,
}

fn of_struct(input: &DeriveInput, data: &DataStruct, attributes: &EventAttributes) -> syn::Result<Body> {
    let name = attributes.name(input.ident.span(), "an event")?;
    let key = match &attributes.key {
        None => quote!(::core::option::Option::None),
        Some(key) => {
            attributes.check_key(key, &data.fields, &format!("`{}`", input.ident))?;
            text_of(&quote!(self.#key))
        }
    };
    Ok(Body { names: vec![name.clone()], name: quote!(#name), key })
}

fn of_enum(input: &DeriveInput, data: &DataEnum, attributes: &EventAttributes) -> syn::Result<Body> {
    if let Some(name) = &attributes.name {
        let why = "an enum is a family of events: give each variant a name of its own, and the enum none";
        return Err(Error::new(name.span(), why));
    }
    if data.variants.is_empty() {
        return Err(Error::new(input.ident.span(), "a family of events needs at least one variant"));
    }
    let mut names: Vec<LitStr> = Vec::new();
    let (mut name_arms, mut key_arms) = (Vec::new(), Vec::new());
    for variant in &data.variants {
        let own = EventAttributes::parse(&variant.attrs)?;
        let name = own.name(variant.ident.span(), "each variant of a family of events")?;
        if names.iter().any(|known| known.value() == name.value()) {
            return Err(Error::new(name.span(), format!("two variants are named {:?}", name.value())));
        }
        let id = &variant.ident;
        name_arms.push(quote!(Self::#id { .. } => #name));
        key_arms.push(match own.key.as_ref().or(attributes.key.as_ref()) {
            None => quote!(Self::#id { .. } => ::core::option::Option::None),
            Some(key) => {
                let at = if own.key.is_some() { key.span() } else { id.span() };
                attributes.check_key_at(at, key, &variant.fields, &format!("variant `{id}`"))?;
                let text = text_of(&quote!(key));
                quote!(Self::#id { #key: key, .. } => #text)
            }
        });
        names.push(name);
    }
    Ok(Body { names, name: quote!(match self { #(#name_arms),* }), key: quote!(match self { #(#key_arms),* }) })
}

fn text_of(value: &Tokens) -> Tokens {
    quote!(::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&#value))))
}

/// What `#[event(…)]` says.
#[derive(Default)]
struct EventAttributes {
    name: Option<LitStr>,
    key: Option<Member>,
}

impl EventAttributes {
    fn parse(list: &[Attribute]) -> syn::Result<Self> {
        let mut attributes = Self::default();
        for attribute in list.iter().filter(|attribute| attribute.path().is_ident("event")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    attributes.name = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("key") {
                    attributes.key = Some(meta.value()?.parse()?);
                } else {
                    return Err(meta.error("expected `name = \"account.credited.v1\"` or `key = field`"));
                }
                Ok(())
            })?;
        }
        Ok(attributes)
    }

    fn name(&self, of: Span, what: &str) -> syn::Result<LitStr> {
        let Some(name) = &self.name else {
            let why = format!(
                "{what} needs a name that never changes, whatever the type is called later\n\
                 help: add `#[event(name = \"account.credited.v1\")]`"
            );
            return Err(Error::new(of, why));
        };
        let text = name.value();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(Error::new(
                name.span(),
                "the name of an event has at least one character, and no control characters",
            ));
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(Error::new(name.span(), format!("the name of an event has at most {NAME_BYTES_MAX} bytes")));
        }
        Ok(name.clone())
    }

    fn check_key(&self, key: &Member, fields: &Fields, of: &str) -> syn::Result<()> {
        self.check_key_at(key.span(), key, fields, of)
    }

    fn check_key_at(&self, at: Span, key: &Member, fields: &Fields, of: &str) -> syn::Result<()> {
        if fields.members().any(|field| field == *key) {
            return Ok(());
        }
        let known: Vec<String> = fields.members().map(|field| format!("`{}`", member(&field))).collect();
        let help = match known.as_slice() {
            [] => "it has no fields: leave `key` out, and its stream orders it".to_owned(),
            known => format!("its fields are {}", known.join(", ")),
        };
        Err(Error::new(at, format!("{of} has no field `{}` to order it by\nhelp: {help}", member(key))))
    }
}

fn member(member: &Member) -> String {
    match member {
        Member::Named(name) => name.to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}
