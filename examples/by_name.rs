//! By name: a program that has no traits asks what an object can do, and does it.
//!
//! Run it with `cargo run --example by_name`. On the object of another program, by its address, a method, and
//! arguments as one types them: `cargo run --example by_name -- unix:/run/bench.sock voltage 3 gain=1.5`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use farref::object::Arguments;
use farref::{Object, Result, Server, Value, connect, remote};

/// A bench of instruments.
#[remote]
trait Bench {
    /// Measures a channel, in volts.
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64>;

    /// What it is called.
    #[property]
    fn title(&self) -> Result<String>;
}

struct Simulated;

impl Bench for Simulated {
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64> {
        Ok(f64::from(channel) * gain.unwrap_or(1.0))
    }

    fn title(&self) -> Result<String> {
        Ok("a simulated bench".into())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let typed: Vec<String> = std::env::args().skip(1).collect();
    if let [address, method, arguments @ ..] = typed.as_slice() {
        let object = connect(address.as_str()).await?.object().await?;
        println!("{}", object.call(method, parse(arguments)?).await?);
        return Ok(());
    }
    let server = Server::of::<dyn Bench>(Simulated);
    let address = server.listen("mem:bench").await?;
    show(&connect(address).await?.object().await?).await
}

async fn show(object: &Object) -> Result<()> {
    println!("{}", object.describe().await?);
    println!("title: {}", object.get("title").await?);
    let arguments = parse(&["3".into(), "gain=1.5".into()])?;
    println!(
        "voltage{arguments}: {}",
        object.call("voltage", arguments.clone()).await?
    );
    for (name, arguments) in [("voltag", "3"), ("voltage", "\"three\"")] {
        if let Err(error) = object.call(name, parse(&[arguments.into()])?).await {
            println!("{name}({arguments}): {error}");
        }
    }
    Ok(())
}

/// `3 gain=1.5`: values by their places, and by their names.
fn parse(typed: &[String]) -> Result<Arguments> {
    let mut arguments = Arguments::new();
    for typed in typed {
        let named = typed.split_once('=').filter(|(name, _)| is_name(name));
        arguments = match named {
            Some((name, value)) => arguments.named(name, value.parse::<Value>()?),
            None => arguments.with(typed.parse::<Value>()?),
        };
    }
    Ok(arguments)
}

fn is_name(typed: &str) -> bool {
    let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    typed.starts_with(|first: char| first.is_alphabetic()) && typed.chars().all(is_letter)
}
