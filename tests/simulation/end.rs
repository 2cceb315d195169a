//! The end of a story: everything is put right, time passes until nothing is owed to anybody, and the books are compared.
//! Must never make good what the broker should have done by itself.

use std::collections::BTreeSet;

use fluxrelay::engine::{Input, Query, Reply, ReplyTo, Status};
use fluxrelay::ids::{CommandId, ServerId, ShardNo, StoreId};

use crate::world::World;

/// Looks for the end, this many milliseconds apart, before the story says that it does not come.
const LOOK_EVERY: u64 = 2_000;
const LOOKS_MAX: u64 = 300;

impl World {
    /// Nothing breaks any more, everybody is there, operators ask for all that is left again.
    pub(crate) fn heal(&mut self) {
        self.trace.note(self.now, "healing", format_args!(""));
        self.healing = true;
        self.disk.heal();
        for server in self.registry.keys().copied().collect::<Vec<_>>() {
            if let Some(link) = self.plugin_stops_polling(server) {
                self.lost(link);
            }
            self.all_players_join(server);
        }
        for look in 0..LOOKS_MAX {
            self.run_until(self.now + LOOK_EVERY);
            if self.is_settled() {
                self.trace.count("looks for the end", look);
                return self.close_the_books();
            }
            self.audit();
            if look % 5 == 0 {
                self.resend_all(StoreId(1));
                self.resend_all(StoreId(2));
            }
        }
        panic!("it never settles: {}", self.unsettled());
    }

    fn is_settled(&self) -> bool {
        let plans = self.checker.plans.iter().all(|plan| plan.settled || plan.refused);
        plans
            && self.broker.is_some()
            && self.checker.open().next().is_none()
            && self.registry.keys().all(|server| self.plugin_is_settled(*server))
    }

    fn unsettled(&self) -> String {
        let plans = self.checker.plans.iter().enumerate().filter(|(_, plan)| !plan.settled && !plan.refused);
        let plans: Vec<usize> = plans.map(|(number, _)| number).collect();
        let open: Vec<_> = self.checker.open().collect();
        let plugins: Vec<&ServerId> =
            self.registry.keys().filter(|server| !self.plugin_is_settled(**server)).collect();
        format!("without an answer {plans:?}; not ended {open:?}; plugins that wait {plugins:?}")
    }

    /// Asks and goes on until the answer is there.
    fn ask(&mut self, shard: ShardNo, input: impl FnOnce(ReplyTo) -> Input) -> Reply {
        let mut answer = self.broker.as_mut().expect("it is healthy").call(shard, input);
        loop {
            match answer.try_recv() {
                Ok(reply) => return reply,
                Err(_) => self.run_until(self.now + 10),
            }
        }
    }

    fn close_the_books(&mut self) {
        // The last checkpoints.
        self.run_until(self.now + 30_000);
        let broker = self.broker.as_ref().expect("it is healthy");
        let counters = (0..broker.shards()).map(|no| broker.counters(ShardNo(no)));
        let (swept, in_memory) =
            counters.fold((0, 0), |sum, shard| (sum.0 + shard.swept, sum.1 + shard.in_memory));
        assert_eq!(swept, 0, "the sweep found something");
        assert_eq!(in_memory, 0, "what has ended leaves memory");
        let mut found = BTreeSet::new();
        for server in self.plugins.keys().copied().collect::<Vec<_>>() {
            self.compare_server(server, &mut found);
        }
        let promised = self.checker.plans.iter().filter_map(|plan| plan.acked.as_ref());
        let promised: BTreeSet<CommandId> = promised.flat_map(|(_, ids)| ids.iter().copied()).collect();
        assert_eq!(found, promised, "what is there, and what was promised");
        self.trace.count("commands", found.len() as u64);
        for (kind, count) in self.checker.tally() {
            self.trace.count(kind, count);
        }
        self.trace.note(self.now, "books closed", format_args!("{} commands", found.len()));
    }

    fn compare_server(&mut self, server: ServerId, found: &mut BTreeSet<CommandId>) {
        let rest = self.broker.as_ref().expect("it is healthy").rest();
        let page = rest.ended(server, None, None, 10_000).expect("a sound disk");
        let mut counts = [0; 8];
        for row in &page.commands {
            assert!(found.insert(row.id), "{} is there twice", row.id);
            counts[row.status as usize - 1] += 1;
            self.checker.on_last_row(row);
        }
        if !self.registry.contains_key(&server) {
            return;
        }
        let shard = server.shard(self.broker.as_ref().expect("it is healthy").shards());
        let query = Query::Servers(vec![server]);
        let Reply::Servers(states) = self.ask(shard, |from| Input::Read { from, query }) else {
            panic!("another answer to a look-up")
        };
        assert_eq!(states[0].counts, counts, "{server}: counts by status, from {:?} on", Status::Pending);
    }
}
