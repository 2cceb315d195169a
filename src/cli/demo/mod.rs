//! `fluxrelay demo`: the whole thing once, in one process, checked while it is told.
//!
//! Keeps nothing: the data directory is temporary, the port is free, nothing else is touched.

mod plugin;
mod story;
mod teller;

use tokio::net::TcpListener;

use super::args::DemoArgs;
use super::exit::CliError;
use super::node::Node;
use super::rest::{Rest, read_secret};
use crate::broker;
use crate::time::Millis;
use crate::transport::TransportSettings;
use story::Story;
use teller::Teller;

/// Retries come after these instead of 30, 60 and 120 s, so that nobody has to wait for them.
const RETRY_DELAYS: [Millis; 3] = [Millis(300), Millis(600), Millis(1200)];

/// Tells the story; the error says what was not as it must be.
pub(super) fn run(args: &DemoArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::local("cannot start threads", error))?;
    let mut teller = Teller::new(args.json);
    teller.chapter("A broker starts")?;
    let data = tempfile::Builder::new().prefix("fluxrelay-demo-").tempdir();
    let data = data.map_err(|error| CliError::local("cannot make a data directory", error))?;
    let mut settings = broker::Settings::new(data.path().to_owned());
    settings.engine.retry_delays = RETRY_DELAYS.to_vec();
    let node = runtime.block_on(start(settings))?;
    let url = format!("http://{}", node.address());
    teller.say(format!("it listens on {url}, its data is in {}", data.path().display()))?;
    teller.say("for this demo it retries after 0.3, 0.6 and 1.2 s; else it would be 30, 60 and 120 s")?;
    let key = read_secret(&data.path().join("admin.key"))?;
    let mut story = Story {
        rest: Rest::new(&url, Some(key), None)?,
        url: &url,
        runtime: runtime.handle().clone(),
        teller,
    };
    let told = story.tell();
    let teller = story.teller;
    let stopped = runtime.block_on(node.stop());
    let counts = told?;
    stopped?;
    teller.end(&counts)
}

async fn start(settings: broker::Settings) -> Result<Node, CliError> {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.map_err(|error| CliError::local("cannot listen on 127.0.0.1", error))?;
    Node::start(settings, TransportSettings::default(), listener).await
}
