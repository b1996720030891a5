//! Interim.
use proc_macro::TokenStream;
use proc_macro2::TokenStream as T2;
use quote::{ToTokens, format_ident, quote};
use syn::{visit_mut::VisitMut, *};
#[proc_macro_attribute]
pub fn remote(attr: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as Item);
    let r = match item { Item::Trait(t) => on_trait(attr.into(), t), Item::Impl(i) => on_impl(i), o => Err(Error::new_spanned(o, "no")) };
    r.unwrap_or_else(|e| e.to_compile_error()).into()
}
struct Lt;
impl VisitMut for Lt { fn visit_type_reference_mut(&mut self, t: &mut TypeReference) { if t.lifetime.is_none() { t.lifetime = Some(Lifetime::new("'a", t.and_token.span)); } visit_mut::visit_type_reference_mut(self, t); } }
fn desugar(sig: &mut Signature) -> Type {
    let ret: Type = match &sig.output { ReturnType::Default => parse_quote!(()), ReturnType::Type(_, t) => (**t).clone() };
    if sig.asyncness.take().is_none() { return ret; }
    for a in &mut sig.inputs { match a { FnArg::Receiver(r) => { *r = parse_quote!(&'a self); } FnArg::Typed(p) => Lt.visit_type_mut(&mut p.ty) } }
    sig.generics.params.insert(0, parse_quote!('a)); sig.generics.lt_token = Some(Default::default()); sig.generics.gt_token = Some(Default::default());
    sig.output = parse_quote!(-> ::farref::__private::BoxFuture<'a, #ret>); ret
}
fn boxed(body: &Block, ret: &Type) -> Block { parse_quote!({ ::std::boxed::Box::pin(async move { if let ::core::option::Option::Some(__r) = ::core::option::Option::None::<#ret> { #[allow(unreachable_code)] return __r; } let __r: #ret = #body; #[allow(unreachable_code)] __r }) }) }
fn on_impl(mut i: ItemImpl) -> Result<T2> {
    for it in &mut i.items { if let ImplItem::Fn(f) = it && f.sig.asyncness.is_some() { let r = desugar(&mut f.sig); f.block = boxed(&f.block, &r); f.attrs.push(parse_quote!(#[allow(clippy::let_and_return)])); } }
    Ok(i.into_token_stream())
}
fn adapter(t: &Type) -> T2 {
    let p = quote!(::farref::__private);
    if let Type::Path(tp) = t && let Some(l) = tp.path.segments.last() {
        let args: Vec<&Type> = match &l.arguments { PathArguments::AngleBracketed(a) => a.args.iter().filter_map(|a| if let GenericArgument::Type(t) = a { Some(t) } else { None }).collect(), _ => vec![] };
        if l.ident == "Vec" && args.len() == 1 && args[0].to_token_stream().to_string() == "u8" { return quote!(#p::Blob); }
        if l.ident == "Bytes" && args.is_empty() { return quote!(#p::Blob); }
        if l.ident == "Option" && args.len() == 1 { let a = adapter(args[0]); if a.to_string() != quote!(#p::Plain).to_string() { return quote!(#p::Maybe<#a>); } }
    }
    quote!(#p::Plain)
}
fn ret_adapter(t: &Type) -> T2 {
    if let Type::Path(tp) = t && let Some(l) = tp.path.segments.last() && l.ident == "Result" && let PathArguments::AngleBracketed(a) = &l.arguments && let Some(GenericArgument::Type(t)) = a.args.first() { return adapter(t); }
    quote!(::farref::__private::Plain)
}
struct M { ident: Ident, asy: bool, sig: Signature, args: Vec<(Ident, Type)>, ret: Type, def: bool }
fn on_trait(attr: T2, mut t: ItemTrait) -> Result<T2> {
    let (mut name, mut version) = (t.ident.to_string(), 1u16);
    if !attr.is_empty() { let p = meta::parser(|m| { if m.path.is_ident("name") { name = m.value()?.parse::<LitStr>()?.value(); } else if m.path.is_ident("version") { version = m.value()?.parse::<LitInt>()?.base10_parse()?; } Ok(()) }); parse::Parser::parse2(p, attr)?; }
    let tr = t.ident.clone(); let vis = t.vis.clone();
    let supers: Vec<Path> = t.supertraits.iter().filter_map(|b| if let TypeParamBound::Trait(b) = b { let l = b.path.segments.last()?.ident.to_string(); if ["Send", "Sync", "Any", "Debug", "Unpin"].contains(&l.as_str()) { None } else { Some(b.path.clone()) } } else { None }).collect();
    for b in ["::std::any::Any", "::core::marker::Send", "::core::marker::Sync"] { let p: Path = parse_str(b)?; t.supertraits.push(parse_quote!(#p)); }
    let mut ms = vec![]; let mut hidden: Vec<TraitItem> = vec![]; let mut manners = vec![];
    for it in &mut t.items { if let TraitItem::Fn(f) = it {
        if f.sig.generics.where_clause.is_some() { continue; }
        let mut man = vec![];
        f.attrs.retain(|a| { let n = a.path().get_ident().map(|i| i.to_string()).unwrap_or_default(); if ["serial","concurrent","one_way","idempotent","detached","inline","spawned"].contains(&n.as_str()) { man.push(format_ident!("{n}")); false } else { true } });
        manners.push(man);
        let asy = f.sig.asyncness.is_some();
        let args = f.sig.inputs.iter().skip(1).filter_map(|a| if let FnArg::Typed(p) = a && let Pat::Ident(i) = &*p.pat { Some((i.ident.clone(), (*p.ty).clone())) } else { None }).collect::<Vec<_>>();
        let ret = desugar(&mut f.sig); let mut def = false;
        if let Some(b) = f.default.take() { def = true; let h = format_ident!("__default_{}", f.sig.ident); let mut sig = f.sig.clone(); sig.ident = h.clone(); let b = if asy { boxed(&b, &ret) } else { b };
            hidden.push(TraitItem::Fn(TraitItemFn { attrs: vec![parse_quote!(#[doc(hidden)])], modifiers: Default::default(), sig, default: Some(b), semi_token: None })); let n = args.iter().map(|a| &a.0); f.default = Some(parse_quote!({ self.#h(#(#n),*) })); f.semi_token = None; }
        ms.push(M { ident: f.sig.ident.clone(), asy, sig: f.sig.clone(), args, ret, def });
    } }
    let rm = format_ident!("__remote_of_{}", tr.to_string().to_lowercase());
    hidden.push(parse_quote!(#[doc(hidden)] fn #rm(&self) -> ::core::option::Option<::farref::__private::Arc<dyn ::farref::__private::Remote>> { ::core::option::Option::None }));
    t.items.extend(hidden);
    let p = quote!(::farref::__private); let calls = format_ident!("{tr}Calls"); let blocking = format_ident!("{tr}Blocking");
    let (mut structs, mut arms, mut px, mut nr, mut cm, mut bm, mut meta) = (vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
    for (i, m) in ms.iter().enumerate() {
        let M { ident, sig, ret, .. } = m; let a = format_ident!("Args{i}"); let ra = ret_adapter(ret);
        let names: Vec<_> = m.args.iter().map(|a| a.0.clone()).collect();
        let tys: Vec<(Type, bool)> = m.args.iter().map(|a| match &a.1 { Type::Reference(r) => { let e = &r.elem; match &**e { Type::Slice(_) => (parse_quote!(<#e as ::std::borrow::ToOwned>::Owned), true), Type::Path(q) if q.path.is_ident("str") => (parse_quote!(::std::string::String), true), _ => ((**e).clone(), true) } } t => (t.clone(), false) }).collect();
        let fields = names.iter().zip(&tys).map(|(n, (t, _))| { let ad = adapter(t); quote!(#n: #p::FromAs<#ad, #t>) });
        structs.push(quote!(#[derive(#p::serde::Deserialize)] #[serde(crate = "::farref::__private::serde")] struct #a { #(#fields),* }));
        let lets = names.iter().map(|n| quote!(let #n = __a.#n.into_inner();));
        let pass: Vec<_> = names.iter().zip(&tys).map(|(n, t)| if t.1 { quote!(&#n) } else { quote!(#n) }).collect();
        let get = quote!(let __m = &<dyn #tr as #p::RemoteTrait>::INTERFACE.methods[#i]; let __a: #a = match __c.arguments(__m) { Ok(a) => a, Err(e) => return __c.fail(e, false) }; let _ = &__a; #(#lets)*);
        let m_ref = quote!(&<dyn #tr as #p::RemoteTrait>::INTERFACE.methods[#i]);
        arms.push(if m.asy { quote!(Some(#i) => #p::Dispatched::Async(::std::boxed::Box::pin(async move { #get let __r = __t.#ident(#(#pass),*).await; __c.reply::<#ra, #ret>(__m, &__r); }), #m_ref),) } else { quote!(Some(#i) => #p::Dispatched::Blocking(::std::boxed::Box::new(move || { #get let __r = __t.#ident(#(#pass),*); __c.reply::<#ra, #ret>(__m, &__r); }), #m_ref),) });
        let enc: Vec<_> = names.iter().zip(&tys).map(|(n, (t, r))| { let ad = adapter(t); let isb = ad.to_string().ends_with("Plain"); let n2 = if *r { quote!(#n) } else { quote!(&#n) }; let ad = if isb { quote!(#p::Plain) } else { ad }; quote!(#p::As::<#ad, _>::new(#n2),) }).collect();
        let h = format_ident!("__default_{}", ident);
        px.push(match (m.asy, m.def) {
            (true, false) => quote!(#sig { ::std::boxed::Box::pin(::farref::Call::<#ret>::remote(self.remote(), #m_ref, &(#(#enc)*), #p::decode_outcome::<#ra, #ret>)) }),
            (true, true) => quote!(#sig { let __c = ::farref::Call::<#ret>::remote(self.remote(), #m_ref, &(#(#enc)*), #p::decode_outcome::<#ra, #ret>); ::std::boxed::Box::pin(async move { match __c.or_missing().await { Some(r) => r, None => self.#h(#(#names),*).await } }) }),
            (false, false) => quote!(#sig { #p::block(self.remote(), #m_ref, &(#(#enc)*), #p::decode_outcome::<#ra, #ret>) }),
            (false, true) => quote!(#sig { match #p::block_or_missing(self.remote(), #m_ref, &(#(#enc)*), #p::decode_outcome::<#ra, #ret>) { Some(r) => r, None => self.#h(#(#names),*) } }),
        });
        nr.push(quote!(#sig { __T::up_ref(self).#ident(#(#names),*) }));
        let typed: Vec<_> = m.args.iter().map(|(n, t)| quote!(#n: #t)).collect();
        let own = names.iter().zip(&tys).filter(|(_, t)| t.1).map(|(n, _)| quote!(let #n = ::std::borrow::ToOwned::to_owned(#n);)).collect::<Vec<_>>();
        let local = if m.asy { quote!(::farref::Call::local(async move { __o.#ident(#(#pass),*).await })) } else { quote!(::farref::Call::local_blocking(move || __o.#ident(#(#pass),*))) };
        cm.push(quote!(pub fn #ident(&self, #(#typed),*) -> ::farref::Call<#ret> { match self.0.place() {
            #p::Place::Remote(r) => ::farref::Call::<#ret>::remote(r, #m_ref, &(#(#enc)*), #p::decode_outcome::<#ra, #ret>),
            #p::Place::Local(o) => { let __o = #p::Arc::clone(o); #(#own)* #local }
            #p::Place::Promised(o) => { let __o = o.clone(); #(#own)* ::farref::Call::local(async move { match __o.get().await { Ok(__n) => __n.call().#ident(#(#pass),*).await, Err(e) => <#ret as #p::MethodResult>::from_error(e) } }) }
        } }));
        bm.push(if m.asy { quote!(pub fn #ident(&self, #(#typed),*) -> #ret { if self.0.netref().is_local() { #p::block_on(self.0.netref().#ident(#(#names),*)).unwrap_or_else(<#ret as #p::MethodResult>::from_error) } else { self.0.netref().call().#ident(#(#names),*).wait() } }) } else { quote!(pub fn #ident(&self, #(#typed),*) -> #ret { self.0.netref().#ident(#(#names),*) }) });
        let (n, r, asy, def) = (ident.to_string(), ret.to_token_stream().to_string(), m.asy, m.def);
        let at = m.args.iter().map(|(_, t)| t.to_token_stream().to_string()).collect::<Vec<_>>().join(",");
        let an = m.args.iter().map(|(n, t)| { let (n, t) = (n.to_string(), t.to_token_stream().to_string()); quote!(#p::Argument::new(#n, #t)) });
        let man = &manners[i];
        let man = ["serial","concurrent","one_way","idempotent","detached","inline","spawned"].map(|k| { let id = format_ident!("{k}"); let v = man.iter().any(|m| m == k); quote!(#id: #v) });
        meta.push(quote!(#p::Method::new(__ID, #n, #asy, #def, #p::Manners { #(#man),* }, &[#(#an),*], #at, #r, "")));
    }
    let tries = supers.iter().map(|s| quote!(if __c.is_for(<dyn #s as #p::RemoteTrait>::INTERFACE) { return <dyn #s as #p::RemoteTrait>::dispatch(__t, __c); }));
    let ups = supers.iter().map(|s| quote!(if let Some(x) = <dyn #s as #p::RemoteTrait>::upcast(__t.clone(), __i) { return Some(x); }));
    let parents = supers.iter().map(|s| quote!(<dyn #s as #p::RemoteTrait>::INTERFACE));
    let ext: T2 = match &supers[..] { [] => quote!(), [s] => quote!(impl<__U: ?Sized> #p::Extends<__U> for dyn #tr where dyn #s: #p::Extends<__U> { fn up(a: #p::Arc<Self>) -> #p::Arc<__U> { <dyn #s as #p::Extends<__U>>::up(a) } fn up_ref(a: &Self) -> &__U { <dyn #s as #p::Extends<__U>>::up_ref(a) } }), many => many.iter().map(|s| quote!(impl #p::Extends<dyn #s> for dyn #tr { fn up(a: #p::Arc<Self>) -> #p::Arc<dyn #s> { a } fn up_ref(a: &Self) -> &(dyn #s + 'static) { a } })).collect() };
    let pw = supers.iter().map(|s| quote!(#p::Proxy<__T>: #s,)).collect::<T2>(); let nw = supers.iter().map(|s| quote!(::farref::Netref<__T>: #s,)).collect::<T2>();
    Ok(quote! {
        #[allow(missing_docs)] #t
        #[allow(missing_docs, unused, clippy::all, clippy::pedantic, clippy::indexing_slicing)]
        const _: () = {
            #(#structs)*
            const __ID: u64 = #p::interface_id(#name, #version);
            impl #p::RemoteTrait for dyn #tr {
                const INTERFACE: &'static #p::Interface = &#p::Interface::new(#name, #version, &[#(#meta),*], &[#(#parents),*], "");
                type Calls<'a> = #calls<'a>; type Blocking<'a> = #blocking<'a>;
                fn proxy(r: #p::Arc<dyn #p::Remote>) -> #p::Arc<Self> { #p::Arc::new(#p::Proxy::<dyn #tr>::new(r)) }
                fn remote(&self) -> ::core::option::Option<#p::Arc<dyn #p::Remote>> { <Self as #tr>::#rm(self) }
                fn dispatch(__t: #p::Arc<Self>, __c: #p::Invocation) -> #p::Dispatched { match __c.method_of(Self::INTERFACE) { #(#arms)* _ => { #(#tries)* __c.unknown(Self::INTERFACE) } } }
                fn upcast(__t: #p::Arc<Self>, __i: u64) -> ::core::option::Option<::std::boxed::Box<dyn #p::Any>> { if __i == __ID { return Some(::std::boxed::Box::new(__t)); } #(#ups)* None }
            }
            impl<S: #tr> #p::Wrap<S> for dyn #tr { fn wrap(a: #p::Arc<S>) -> #p::Arc<Self> { a } }
            impl #p::Extends<dyn #tr> for dyn #tr { fn up(a: #p::Arc<Self>) -> #p::Arc<Self> { a } fn up_ref(a: &Self) -> &Self { a } }
            #ext
            impl<__T: ?Sized + 'static> #tr for #p::Proxy<__T> where __T: #p::Extends<dyn #tr>, #pw { #(#px)* fn #rm(&self) -> ::core::option::Option<#p::Arc<dyn #p::Remote>> { Some(#p::Arc::clone(self.remote())) } }
            impl<__T: ?Sized + #p::RemoteTrait> #tr for ::farref::Netref<__T> where __T: #p::Extends<dyn #tr>, #nw { #(#nr)* fn #rm(&self) -> ::core::option::Option<#p::Arc<dyn #p::Remote>> { self.as_remote() } }
        };
        #[derive(Debug)] #[allow(missing_docs)] #vis struct #calls<'a>(::farref::Caller<'a, dyn #tr>);
        impl<'a> From<::farref::Caller<'a, dyn #tr>> for #calls<'a> { fn from(c: ::farref::Caller<'a, dyn #tr>) -> Self { Self(c) } }
        #[allow(missing_docs, unused, clippy::all, clippy::indexing_slicing)] impl #calls<'_> { #(#cm)* }
        #[derive(Debug)] #[allow(missing_docs)] #vis struct #blocking<'a>(::farref::Lender<'a, dyn #tr>);
        impl<'a> From<::farref::Lender<'a, dyn #tr>> for #blocking<'a> { fn from(c: ::farref::Lender<'a, dyn #tr>) -> Self { Self(c) } }
        #[allow(missing_docs, unused, clippy::all)] impl #blocking<'_> { #(#bm)* }
    })
}
