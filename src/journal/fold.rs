//! Folds equal refusals: the first of a minute is recorded, the others are counted and recorded as
//! one number when the minute ends. No clock, no database; the writer asks and tells.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::domain::{
    audit::{Action, Actor, Asked, AuditEvent, Refused},
    ids::{ObjectId, TenantId},
};

/// What makes refusals equal: who, why and what for. The role table's version belongs to it, since
/// a record says on which version it was decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FoldKey {
    tenant_id: TenantId,
    object_id: ObjectId,
    code: String,
    asked: Asked,
    policy_version: i64,
}

impl FoldKey {
    /// The key of a caller's refusal; `None` for everything else, which never folds.
    pub(super) fn of(event: &AuditEvent) -> Option<Arc<Self>> {
        match (&event.actor, &event.action) {
            (
                Actor::Caller {
                    tenant_id,
                    object_id,
                    ..
                },
                Action::Refused(refused),
            ) => Some(Arc::new(Self {
                tenant_id: *tenant_id,
                object_id: *object_id,
                code: refused.code.clone(),
                asked: refused.asked.clone(),
                policy_version: refused.policy_version,
            })),
            _ => None,
        }
    }
}

/// One recorded refusal and its repeats.
#[derive(Debug)]
struct Fold {
    actor: Actor,
    refused: Refused,
    count: u64,
    ends_at: i64,
}

/// A fold that has ended, as the event to record.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) key: Arc<FoldKey>,
    pub(super) event: AuditEvent,
}

/// The open folds. Every change of it follows a commit; what comes before only looks.
#[derive(Debug)]
pub(super) struct Folder {
    window_micros: i64,
    open_max: usize,
    open: HashMap<Arc<FoldKey>, Fold>,
    /// Keys as they were opened, with their ends: the window is one for all, so this is the order
    /// of ending too.
    order: VecDeque<(i64, Arc<FoldKey>)>,
}

impl Folder {
    pub(super) fn new(window: Duration, open_max: usize) -> Self {
        Self {
            window_micros: i64::try_from(window.as_micros()).unwrap_or(i64::MAX),
            open_max,
            open: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Which of a group's refusals, in their order, repeat an earlier one: of an open fold that is
    /// not in `ending`, or of this group where there is room to open a fold for it.
    pub(super) fn repeats<'a>(
        &self,
        ending: &[Ended],
        refusals: impl Iterator<Item = Option<&'a Arc<FoldKey>>>,
    ) -> Vec<bool> {
        let ending: HashSet<_> = ending.iter().map(|ended| &ended.key).collect();
        let room = self.open_max.saturating_sub(self.open.len());
        let mut first_here = HashSet::new();
        let mut repeats = |key: &'a Arc<FoldKey>| {
            if self.open.contains_key(key) && !ending.contains(key) || first_here.contains(key) {
                return true;
            }
            if first_here.len() < room {
                first_here.insert(key);
            }
            false
        };
        refusals.map(|key| key.is_some_and(&mut repeats)).collect()
    }

    /// A refusal has been recorded at `now`: repeats may fold into it, if there is room.
    pub(super) fn open(&mut self, key: Arc<FoldKey>, actor: Actor, refused: Refused, now: i64) {
        if self.open.len() >= self.open_max || self.open.contains_key(&key) {
            return;
        }
        let fold = Fold {
            actor,
            refused,
            count: 0,
            ends_at: now.saturating_add(self.window_micros),
        };
        self.order.push_back((fold.ends_at, Arc::clone(&key)));
        self.open.insert(key, fold);
    }

    /// A repeat has been answered.
    pub(super) fn repeat(&mut self, key: &Arc<FoldKey>) {
        if let Some(fold) = self.open.get_mut(key) {
            fold.count += 1;
        }
    }

    /// At most `limit` folds whose window has ended at `until`, to be recorded at `now`. Those
    /// without a repeat are forgotten here.
    pub(super) fn ended(&mut self, until: i64, now: i64, limit: usize) -> Vec<Ended> {
        let mut ended = Vec::new();
        let mut kept = Vec::new();
        while ended.len() < limit
            && let Some((_, key)) = self.order.pop_front_if(|(ends_at, _)| *ends_at <= until)
        {
            let Some(fold) = self.open.get(&key) else {
                continue;
            };
            if fold.count == 0 {
                self.open.remove(&key);
                continue;
            }
            let event = AuditEvent {
                at: now,
                actor: fold.actor.clone(),
                client: None,
                request_id: None,
                action: Action::RefusalsFolded {
                    refused: fold.refused.clone(),
                    count: fold.count,
                },
            };
            kept.push((fold.ends_at, Arc::clone(&key)));
            ended.push(Ended { key, event });
        }
        // Until they are recorded they stay open, at the front.
        for place in kept.into_iter().rev() {
            self.order.push_front(place);
        }
        ended
    }

    /// Ended folds have been recorded.
    pub(super) fn close(&mut self, ended: &[Ended]) {
        for ended in ended {
            self.open.remove(&ended.key);
        }
        while self
            .order
            .pop_front_if(|(_, key)| !self.open.contains_key(key))
            .is_some()
        {}
    }

    /// Whether a window has ended at `until`.
    pub(super) fn any_ended(&self, until: i64) -> bool {
        self.order
            .front()
            .is_some_and(|(ends_at, _)| *ends_at <= until)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::permission::{PermissionSet, SignedResource};

    const MINUTE: i64 = 60_000_000;

    fn refusal(caller: u128, code: &str, path: &str) -> (Arc<FoldKey>, Actor, Refused) {
        let refused = Refused {
            asked: Asked {
                account: "acct1".parse().unwrap(),
                container: "raw".parse().unwrap(),
                path: Some(path.parse().unwrap()),
                resource: SignedResource::Blob,
                permissions: PermissionSet::of(b"r"),
            },
            code: code.into(),
            reasons: vec![],
            grants: vec![],
            policy_version: 1,
        };
        let actor = Actor::Caller {
            tenant_id: TenantId(Uuid::from_u128(1)),
            object_id: ObjectId(Uuid::from_u128(caller)),
            app_id: None,
            token_id: None,
        };
        let event = AuditEvent {
            at: 0,
            actor: actor.clone(),
            client: None,
            request_id: None,
            action: Action::Refused(refused.clone()),
        };
        (FoldKey::of(&event).unwrap(), actor, refused)
    }

    fn folder(open_max: usize) -> Folder {
        Folder::new(Duration::from_secs(60), open_max)
    }

    fn opened(
        folder: &mut Folder,
        which: (Arc<FoldKey>, Actor, Refused),
        now: i64,
    ) -> Arc<FoldKey> {
        let (key, actor, refused) = which;
        folder.open(Arc::clone(&key), actor, refused, now);
        key
    }

    fn counts(ended: &[Ended]) -> Vec<u64> {
        let count = |ended: &Ended| match ended.event.action {
            Action::RefusalsFolded { count, .. } => count,
            _ => 0,
        };
        ended.iter().map(count).collect()
    }

    #[test]
    fn repeats_are_counted_until_the_window_ends() {
        let mut folder = folder(10);
        let key = opened(&mut folder, refusal(1, "no-grant", "a"), 0);
        assert_eq!(folder.repeats(&[], [Some(&key)].into_iter()), [true]);
        folder.repeat(&key);
        folder.repeat(&key);
        assert!(!folder.any_ended(MINUTE - 1));
        assert!(folder.ended(MINUTE - 1, 0, 10).is_empty());
        let ended = folder.ended(MINUTE, MINUTE, 10);
        assert_eq!(counts(&ended), [2]);
        assert!(folder.any_ended(MINUTE), "kept until it is recorded");
        let again = folder.repeats(&ended, [Some(&key)].into_iter());
        assert_eq!(
            again,
            [false],
            "what comes while it is recorded begins anew"
        );
        folder.close(&ended);
        assert!(!folder.any_ended(i64::MAX));
    }

    #[test]
    fn caller_code_and_scope_keep_refusals_apart() {
        let mut folder = folder(10);
        opened(&mut folder, refusal(1, "no-grant", "a"), 0);
        for other in [
            refusal(2, "no-grant", "a"),
            refusal(1, "denied", "a"),
            refusal(1, "no-grant", "b"),
        ] {
            assert_eq!(folder.repeats(&[], [Some(&other.0)].into_iter()), [false]);
        }
    }

    #[test]
    fn a_refusal_without_repeats_leaves_no_second_record() {
        let mut folder = folder(10);
        opened(&mut folder, refusal(1, "no-grant", "a"), 0);
        assert!(folder.ended(MINUTE, MINUTE, 10).is_empty());
        assert!(!folder.any_ended(i64::MAX));
    }

    #[test]
    fn beyond_the_bound_every_refusal_is_recorded() {
        let mut folder = folder(1);
        let known = opened(&mut folder, refusal(1, "no-grant", "a"), 0);
        let (other, actor, refused) = refusal(2, "no-grant", "a");
        let group = [Some(&other), Some(&other), Some(&known), None];
        let repeats = folder.repeats(&[], group.into_iter());
        assert_eq!(repeats, [false, false, true, false]);
        folder.open(Arc::clone(&other), actor, refused, 0);
        folder.repeat(&other);
        assert!(counts(&folder.ended(i64::MAX, 0, 10)).is_empty());
    }

    #[test]
    fn equal_refusals_of_one_group_fold_into_its_first() {
        let (key, ..) = refusal(1, "no-grant", "a");
        let repeats = folder(10).repeats(&[], [Some(&key), Some(&key)].into_iter());
        assert_eq!(repeats, [false, true]);
    }

    #[test]
    fn ended_folds_come_in_bounded_portions_and_none_is_lost() {
        let mut folder = folder(10);
        for caller in 0..5 {
            let key = opened(&mut folder, refusal(caller, "no-grant", "a"), 0);
            folder.repeat(&key);
        }
        let mut total = 0;
        while folder.any_ended(MINUTE) {
            let ended = folder.ended(MINUTE, MINUTE, 2);
            assert!(ended.len() <= 2);
            total += ended.len();
            folder.close(&ended);
        }
        assert_eq!(total, 5);
    }
}
