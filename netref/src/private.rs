//! For code that `#[remote]` generates. Nothing here is for anybody else, and all of it may change.

pub use std::any::Any;
pub use std::sync::Arc;

pub use farref_boxing::{As, Blob, DeserializeAs, Each, FromAs, Maybe, Outcome, Plain, SerializeAs};
pub use farref_boxing::{ShapeFields, ShapeType, Shaped, Shapes};
pub use serde;

pub use crate::call::{BoxFuture, Promise};
pub use crate::caller::{Caller, Lender, Place};
pub use crate::interface::{
    Argument, Extends, Interface, Manners, Method, RemoteTrait, Wrap, interface_id, method_number,
};
pub use crate::invocation::{Dispatched, Invocation};
pub use crate::netref::Proxy;
pub use crate::place::block_on;
pub use crate::remote::Remote;
pub use crate::result::{Decode, Hop, MethodResult, block, block_or_missing, decode_outcome};
pub use crate::shapes::{MethodShapes, Tell, TellAll};
