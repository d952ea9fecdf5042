//! The task that writes. It takes what has piled up, makes one transaction of it, and releases the
//! answers after the commit; whatever goes wrong before that, nothing is released.

use std::{
    mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    JournalError, Limits, Shared,
    fold::{Ended, Folder},
    group::{Edit, Effect, Message, Page, Staged, Verdict, Waiting, Work, take_keys},
};
use crate::{
    domain::{
        audit::{Action, AuditEvent, Chain, HEADS_NAMED_MAX, Head},
        ids::WriterId,
        time_text,
    },
    ports::{Clock, Entropy, JournalStore, JournalTx, Purpose, StoreError},
};

/// Most messages that are taken from the queue at once.
const TAKEN_MAX: usize = 1_024;

/// Most ended folds that one group records besides its entries.
const FOLDS_PER_GROUP_MAX: usize = 256;

pub(super) struct Writer {
    store: Arc<dyn JournalStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    limits: Limits,
    shared: Arc<Shared>,
    chain: Chain,
    folder: Folder,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn JournalStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        limits: Limits,
        shared: Arc<Shared>,
    ) -> Self {
        let chain = new_chain(&*clock, &*entropy);
        Self {
            store,
            clock,
            entropy,
            limits,
            shared,
            chain,
            folder: Folder::new(limits.fold_window, limits.folds_max),
        }
    }

    /// Serves until the queue is closed and empty.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let shared = Arc::clone(&self.shared);
        let mut tick = interval(self.limits.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = Vec::with_capacity(TAKEN_MAX);
        loop {
            tokio::select! {
                biased;
                () = shared.stop.cancelled(), if !inbox.is_closed() => inbox.close(),
                _ = tick.tick() => self.look_after().await,
                count = inbox.recv_many(&mut taken, TAKEN_MAX) => {
                    if count == 0 {
                        break;
                    }
                    // The answers to the last group have just woken their callers, whose next
                    // entries are a moment away: let them in, or every second group is of one.
                    yield_now().await;
                    while taken.len() < TAKEN_MAX && let Ok(message) = inbox.try_recv() {
                        taken.push(message);
                    }
                    self.serve(taken.drain(..)).await;
                }
            }
        }
        // The counts of folds that are still open; if the database fails now, they are lost, as
        // they would be in a crash.
        while self.folder.any_ended(i64::MAX) && self.record_group(vec![], i64::MAX).await {}
    }

    async fn serve(&mut self, taken: impl Iterator<Item = Message>) {
        let mut group = Vec::new();
        let mut events = 0;
        for message in taken {
            match message {
                Message::Entry(entry) => {
                    events += entry.events.len();
                    group.push(entry);
                    if events >= self.limits.group_events {
                        self.group(mem::take(&mut group)).await;
                        events = 0;
                    }
                }
                Message::Edit(edit) => {
                    self.group(mem::take(&mut group)).await;
                    events = 0;
                    self.edit(*edit).await;
                }
            }
        }
        self.group(group).await;
    }

    async fn group(&mut self, group: Vec<Waiting>) {
        if let Some(oldest) = group.first() {
            self.busy(oldest.since);
            let folds_until = self.now();
            self.record_group(group, folds_until).await;
            self.busy(0);
        }
    }

    /// Between groups: records ended folds, and finds out whether a failing database has recovered.
    /// Without the latter a process that is not ready would get no request to find out by.
    async fn look_after(&mut self) {
        let now = self.now();
        if self.folder.any_ended(now) {
            self.record_group(vec![], now).await;
        } else if self.shared.failing.load(Ordering::Relaxed) {
            let probe = timeout(self.limits.transaction_timeout, self.probe()).await;
            self.note(matches!(probe, Ok(Ok(()))));
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let mut tx = self.store.begin(Purpose::Record).await?;
        tx.policy_version().await?;
        tx.abandon().await
    }

    /// Records a group and the folds that ended by `folds_until`; answers everybody. True if the
    /// database did its part.
    async fn record_group(&mut self, mut group: Vec<Waiting>, folds_until: i64) -> bool {
        let now = self.now();
        let ended = self.folder.ended(folds_until, now, FOLDS_PER_GROUP_MAX);
        let written = self.write_group(&mut group, &ended, now).await;
        self.note(written.is_ok());
        match written {
            Ok(verdicts) => {
                for (entry, verdict) in group.into_iter().zip(verdicts) {
                    entry.reply.verdict(verdict);
                }
                true
            }
            Err(error) => {
                for entry in group {
                    entry.reply.failure(error);
                }
                false
            }
        }
    }

    async fn write_group(
        &mut self,
        group: &mut [Waiting],
        ended: &[Ended],
        now: i64,
    ) -> Result<Vec<Verdict>, JournalError> {
        let staging = self.stage_group(group, ended, now);
        let staged = within(self.limits.transaction_timeout, staging).await?;
        self.conclude(staged.tx, staged.chain).await?;
        self.folder.close(ended);
        for (key, actor, refused) in staged.opened {
            self.folder.open(key, actor, refused, now);
        }
        for (entry, verdict) in group.iter().zip(&staged.verdicts) {
            if let (Some(key), Verdict::Folded) = (&entry.fold, verdict) {
                self.folder.repeat(key);
            }
        }
        Ok(staged.verdicts)
    }

    async fn stage_group(
        &self,
        group: &mut [Waiting],
        ended: &[Ended],
        now: i64,
    ) -> Result<Staged, StoreError> {
        let heads = self.heads_to_name().await?;
        let mut tx = self.store.begin(Purpose::Record).await?;
        let version = tx.policy_version().await?;
        let mut verdicts = self.triage(group, ended, version);
        take_keys(&mut *tx, group, &mut verdicts, now).await?;

        let mut page = Page::new(self.chain.clone());
        let recording = |(entry, verdict): (&Waiting, &Verdict)| {
            matches!(verdict, Verdict::Record) && !entry.events.is_empty()
        };
        if !ended.is_empty() || group.iter().zip(&verdicts).any(recording) {
            page.open(heads, now);
        }
        for ended in ended {
            page.put(ended.event.clone());
        }
        let mut opened = Vec::new();
        for (entry, verdict) in group.iter_mut().zip(&mut verdicts) {
            if matches!(verdict, Verdict::Record) {
                if let (Some(key), [event]) = (&entry.fold, entry.events.as_slice())
                    && let Action::Refused(refused) = &event.action
                {
                    opened.push((Arc::clone(key), event.actor.clone(), refused.clone()));
                }
                *verdict = Verdict::Recorded(page.put_all(mem::take(&mut entry.events), now));
            }
        }
        if page.rows.is_empty() {
            return Ok(Staged::without_rows(tx, verdicts));
        }
        tx.append(&page.rows).await?;
        Ok(Staged {
            tx,
            chain: Some(page.chain),
            verdicts,
            opened,
        })
    }

    /// Who is stale and who repeats a refusal; the others are to be recorded.
    fn triage(&self, group: &[Waiting], ended: &[Ended], version: i64) -> Vec<Verdict> {
        let stale = |entry: &Waiting| entry.decided_on != version;
        let refusals = group
            .iter()
            .map(|entry| entry.fold.as_ref().filter(|_| !stale(entry)));
        let repeats = self.folder.repeats(ended, refusals);
        let verdict = |(entry, repeats)| match (stale(entry), repeats) {
            (true, _) => Verdict::Stale(version),
            (false, true) => Verdict::Folded,
            (false, false) => Verdict::Record,
        };
        group.iter().zip(repeats).map(verdict).collect()
    }

    async fn conclude(
        &mut self,
        tx: Box<dyn JournalTx>,
        chain: Option<Chain>,
    ) -> Result<(), JournalError> {
        match chain {
            Some(chain) => self.seal(tx, chain).await,
            None => {
                // Nothing was written, so nothing is lost if this fails.
                drop(timeout(self.limits.commit_timeout, tx.abandon()).await);
                Ok(())
            }
        }
    }

    /// Commits. If that is not confirmed, the head tells: if it has moved, everything is there. If
    /// not, the commit may still land, late; so this chain is left as it is and a new one begun,
    /// whose records no late commit can collide with.
    async fn seal(&mut self, tx: Box<dyn JournalTx>, chain: Chain) -> Result<(), JournalError> {
        let bound = self.limits.commit_timeout;
        let error = match timeout(bound, tx.commit()).await {
            Ok(Ok(())) => {
                self.chain = chain;
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it did not answer in time".to_owned(),
        };
        let head = chain.head();
        tracing::warn!(error, writer = %head.writer, seq = head.seq, "journal commit is unclear");
        // Without a record the head stands where it stood, and tells nothing.
        if head != self.chain.head()
            && let Ok(Ok(Some(found))) = timeout(bound, self.store.head(head.writer)).await
            && found == head
        {
            self.chain = chain;
            return Ok(());
        }
        self.chain = new_chain(&*self.clock, &*self.entropy);
        Err(JournalError::Unclear)
    }

    async fn edit(&mut self, edit: Edit) {
        self.busy(edit.since);
        let outcome = self.write_edit(edit.work).await;
        self.note(outcome.is_ok());
        self.busy(0);
        // Whoever has stopped waiting needs no answer.
        drop(edit.reply.send(outcome));
    }

    async fn write_edit(&mut self, edit: Work) -> Result<Verdict, JournalError> {
        let staging = self.stage_edit(edit);
        let Staged {
            tx,
            chain,
            verdicts,
            ..
        } = within(self.limits.change_timeout, staging).await?;
        self.conclude(tx, chain).await?;
        let verdict = verdicts.into_iter().next();
        verdict.ok_or(JournalError::Unavailable)
    }

    async fn stage_edit(&self, mut edit: Work) -> Result<Staged, StoreError> {
        let heads = self.heads_to_name().await?;
        let mut tx = self.store.begin(edit.effect.purpose()).await?;
        let before = tx.policy_version().await?;
        if edit.decided_on.is_some_and(|version| version != before) {
            return Ok(Staged::without_rows(tx, vec![Verdict::Stale(before)]));
        }
        let now = self.now();
        if let Some(claim) = &edit.claim
            && !tx.claim(claim, now).await?
        {
            return Ok(Staged::without_rows(tx, vec![Verdict::KeyTaken]));
        }
        if !enact(&mut *tx, &edit.effect, &mut edit.events, now).await? {
            return Ok(Staged::without_rows(tx, vec![Verdict::Refused]));
        }
        let mut page = Page::new(self.chain.clone());
        if !edit.events.is_empty() {
            page.open(heads, now);
        }
        let receipt = page.put_all(edit.events, now);
        tx.append(&page.rows).await?;
        Ok(Staged {
            tx,
            chain: Some(page.chain),
            verdicts: vec![Verdict::Recorded(receipt)],
            opened: vec![],
        })
    }

    /// The heads that a new chain's first record names; none for one that is open.
    async fn heads_to_name(&self) -> Result<Vec<Head>, StoreError> {
        if self.chain.head().seq == 0 {
            self.store.newest_heads(HEADS_NAMED_MAX).await
        } else {
            Ok(Vec::new())
        }
    }

    fn now(&self) -> i64 {
        time_text::to_micros(self.clock.now())
    }

    fn busy(&self, since: i64) {
        self.shared.busy_since.store(since, Ordering::Relaxed);
    }

    /// Remembers how the database did, and says so when that changes.
    fn note(&self, well: bool) {
        match (self.shared.failing.swap(!well, Ordering::Relaxed), well) {
            (true, true) => tracing::info!("the audit journal has recovered"),
            (false, false) => tracing::error!("the audit journal fails; no token is given out"),
            (true, false) | (false, true) => {}
        }
    }
}

/// Makes an edit's writes. False if the batch is refused.
async fn enact(
    tx: &mut dyn JournalTx,
    effect: &Effect,
    events: &mut [AuditEvent],
    now: i64,
) -> Result<bool, StoreError> {
    match effect {
        Effect::Change(changes) => {
            let by = events.first().map(|event| event.actor.to_string());
            let after = tx.change(changes, &by.unwrap_or_default(), now).await?;
            for event in events {
                if let Action::PolicyChanged { policy_version, .. } = &mut event.action {
                    *policy_version = after;
                }
            }
            Ok(true)
        }
        Effect::Rotate(batch) => tx.rotate(batch, now).await,
    }
}

/// What happens before a commit is simple: if it fails or lasts too long, nothing has happened.
async fn within<T>(
    bound: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, JournalError> {
    match timeout(bound, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::warn!(%error, "journal transaction failed");
            Err(JournalError::Unavailable)
        }
        Err(_) => {
            tracing::warn!("journal transaction took too long");
            Err(JournalError::Unavailable)
        }
    }
}

fn new_chain(clock: &dyn Clock, entropy: &dyn Entropy) -> Chain {
    Chain::new(WriterId(entropy.uuid_v7(clock.now())))
}
