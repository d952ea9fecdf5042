-- The rotation of account keys, on SQLite: its stories, the lease, what the last looks showed, and
-- what the webhook is yet to be told. The PostgreSQL twin has the same tables, columns and indexes.
--
-- No key and no secret value is ever in here.

-- Which of the configured credentials manages the account; the signing identity, if NULL.
ALTER TABLE accounts ADD COLUMN management_identity TEXT;

-- How often the delegation keys of an account were dropped. It only grows, and it outlives the
-- account's entry: a key of an older generation must not come back with it.
CREATE TABLE delegation_key_generations (
    account TEXT NOT NULL PRIMARY KEY,
    generation INTEGER NOT NULL,
    raised_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER delegation_key_generations_insert AFTER INSERT ON delegation_key_generations BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER delegation_key_generations_update AFTER UPDATE ON delegation_key_generations BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER delegation_key_generations_delete AFTER DELETE ON delegation_key_generations BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;

-- One row: the right to run rotations. `token` grows with every holder; `holder` is NULL when the
-- lease was given back.
CREATE TABLE leases (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    token INTEGER NOT NULL,
    holder TEXT,
    expires_at INTEGER NOT NULL,
    mutations_from INTEGER NOT NULL
) STRICT;
INSERT INTO leases (id, token, holder, expires_at, mutations_from) VALUES (1, 0, NULL, 0, 0);

-- Kept for good, as the journal is. `id` is a UUIDv7 and grows with time.
CREATE TABLE rotations (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    trigger TEXT NOT NULL,
    key TEXT,
    reason TEXT,
    requested_by TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    detail TEXT,
    ended_at INTEGER
) STRICT;
-- Pages of an account's history.
CREATE INDEX rotations_account ON rotations (account, id);
-- Those that are not over; the two below say how many there may be.
CREATE INDEX rotations_at_work ON rotations (account, id)
    WHERE state IN ('requested', 'running');
CREATE UNIQUE INDEX rotations_one_at_work ON rotations (account)
    WHERE state IN ('requested', 'running') AND trigger <> 'break_glass';
CREATE UNIQUE INDEX rotations_one_break_glass ON rotations (account, COALESCE(key, ''))
    WHERE state IN ('requested', 'running') AND trigger = 'break_glass';

CREATE TABLE rotation_steps (
    rotation TEXT NOT NULL,
    seq INTEGER NOT NULL,
    -- That of the rotation, for the indexes.
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    -- As ARM wrote it: compared, never reckoned with.
    created_before TEXT,
    version TEXT,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT NOT NULL,
    detail TEXT,
    PRIMARY KEY (rotation, seq)
) STRICT, WITHOUT ROWID;
-- The mutation of an account whose outcome is not known.
CREATE INDEX rotation_steps_in_flight ON rotation_steps (account, started_at, rotation, seq)
    WHERE kind IN ('regenerate', 'publish') AND outcome IN ('intended', 'unclear');
-- The last regeneration of a key.
CREATE INDEX rotation_steps_regenerated ON rotation_steps (account, key, started_at, rotation, seq)
    WHERE kind = 'regenerate' AND outcome IN ('done', 'seen');

-- One row for each account that was ever looked at.
CREATE TABLE rotation_status (
    account TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL,
    -- A JSON array of sentences.
    reasons TEXT NOT NULL,
    looked_at INTEGER NOT NULL,
    look_at INTEGER NOT NULL,
    -- When somebody last asked for a look: one that began before that does not put it off.
    woken_at INTEGER,
    -- The newest version of ours; all NULL or none.
    published_version TEXT,
    published_key TEXT,
    published_rotation TEXT,
    published_at INTEGER,
    due_at INTEGER,
    failures INTEGER NOT NULL,
    overdue_told INTEGER
) STRICT, WITHOUT ROWID;

-- What the webhook has not accepted yet. Bounded by whoever adds to it.
CREATE TABLE notifications (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    rotation TEXT,
    at INTEGER NOT NULL,
    -- JSON. Never a secret.
    data TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX notifications_due ON notifications (next_attempt_at);
CREATE INDEX notifications_age ON notifications (at, id);
