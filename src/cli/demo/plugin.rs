//! The simulated game server of the demo: runs what it is given, fails on demand, and remembers everything.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cli::exit::{CliError, Exit};
use crate::client::{DeliveredCommand, Player, PluginClient, PluginOptions, Report};

/// What a simulated server ran and what it refuses.
#[derive(Default)]
struct Memory {
    /// Every run: the command's text and its attempt.
    runs: Vec<(String, u16)>,
    /// Failures still to come, by command text.
    failures: HashMap<String, u32>,
}

/// A game server with its plugin; the server outlives the plugin's connection.
#[derive(Clone)]
pub(super) struct GameServer {
    memory: Arc<Mutex<Memory>>,
    options: PluginOptions,
}

impl GameServer {
    /// A server that is not connected yet and has these players online.
    pub(super) fn new(url: &str, token: &str, players: &[&str]) -> GameServer {
        let mut options = PluginOptions::new(url.replacen("http://", "ws://", 1), token);
        options.players = Some(players.iter().map(|name| Player::named(*name)).collect());
        GameServer { memory: Arc::default(), options }
    }

    /// From now on this command fails so many times.
    pub(super) fn fail(&self, text: &str, times: u32) {
        self.memory.lock().failures.insert(text.to_owned(), times);
    }

    /// How often a command was run, failures included.
    pub(super) fn runs(&self, text: &str) -> usize {
        self.memory.lock().runs.iter().filter(|(run, _)| run == text).count()
    }

    /// Everything it ran, in order.
    pub(super) fn log(&self) -> Vec<String> {
        self.memory.lock().runs.iter().map(|(text, _)| text.clone()).collect()
    }

    /// Connects and waits until it is logged in.
    pub(super) async fn connect(&self) -> Result<PluginClient, CliError> {
        let memory = Arc::clone(&self.memory);
        let run = move |commands: Vec<DeliveredCommand>, reports: &mut Vec<Report>| {
            let mut memory = memory.lock();
            reports.extend(commands.iter().map(|command| memory.run(command)));
        };
        let failed = |error: crate::client::ClientError| CliError::new(Exit::Unexpected, error.to_string());
        let client = PluginClient::start(self.options.clone(), run).await.map_err(failed)?;
        client.connected().await.map_err(failed)?;
        Ok(client)
    }
}

impl Memory {
    fn run(&mut self, command: &DeliveredCommand) -> Report {
        self.runs.push((command.text.clone(), command.attempt));
        match self.failures.get_mut(&command.text) {
            Some(left) if *left > 0 => {
                *left -= 1;
                command.failed("the economy's database is locked")
            }
            _ => command.completed(Some(format!("ran: {}", command.text))),
        }
    }
}
