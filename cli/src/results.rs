//! What a call returned, for people or for programs: values, streams and objects.

use std::io::IsTerminal;

use farref::{ByteStream, Object, Value, from_value};

use crate::context::Global;
use crate::failure::{Failure, Outcome};
use crate::output::Out;

/// Prints a result; a stream of bytes as they come.
pub(crate) async fn print(value: Value, global: &Global) -> Outcome {
    let mut out = Out::new(global);
    match &value {
        Value::Reference(_) => return referred(&value, global, out).await,
        Value::Null if !global.json => {}
        Value::Bytes(bytes) if !global.json && !std::io::stdout().is_terminal() => out.bytes(bytes)?,
        value if global.json => out.json(value)?,
        value => out.value(value)?,
    }
    out.finish()
}

/// Prints what a reference leads to.
async fn referred(value: &Value, global: &Global, mut out: Out) -> Outcome {
    let object = Object::try_from(value).map_err(Failure::usage)?;
    let name = object
        .str()
        .await
        .map_err(|error| Failure::of("the result", &error))?;
    if name == "farref.Source" {
        let mut bytes: ByteStream = from_value(value).map_err(Failure::usage)?;
        while let Some(piece) = bytes.next().await {
            out.bytes(&piece.map_err(|error| Failure::of("the stream ended early", &error))?)?;
            out.flush()?;
        }
        return out.finish();
    }
    let text = Value::from(format!("<{name}>"));
    if global.json {
        out.json(&text)?
    } else {
        out.value(&text)?
    }
    out.finish()
}
