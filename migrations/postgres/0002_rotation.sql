-- The rotation of account keys, on PostgreSQL. The SQLite twin has the same tables, columns and
-- indexes, with the reasons that hold for both.
--
-- No key and no secret value is ever in here.

ALTER TABLE accounts ADD COLUMN management_identity TEXT;

CREATE TABLE delegation_key_generations (
    account TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,
    raised_at BIGINT NOT NULL
);
CREATE TRIGGER delegation_key_generations_change
    BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON delegation_key_generations
    FOR EACH STATEMENT EXECUTE FUNCTION raise_policy_version();

-- Every transaction that writes about rotations locks this row first: one at a time, so that none
-- deadlocks with another, and none slips past a takeover.
CREATE TABLE leases (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    token BIGINT NOT NULL,
    holder TEXT COLLATE "C",
    expires_at BIGINT NOT NULL,
    mutations_from BIGINT NOT NULL
) WITH (fillfactor = 50);
INSERT INTO leases (id, token, holder, expires_at, mutations_from) VALUES (1, 0, NULL, 0, 0);

CREATE TABLE rotations (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    account TEXT COLLATE "C" NOT NULL,
    trigger TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C",
    reason TEXT,
    requested_by TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    detail TEXT,
    ended_at BIGINT
);
CREATE INDEX rotations_account ON rotations (account, id);
CREATE INDEX rotations_at_work ON rotations (account, id)
    WHERE state IN ('requested', 'running');
CREATE UNIQUE INDEX rotations_one_at_work ON rotations (account)
    WHERE state IN ('requested', 'running') AND trigger <> 'break_glass';
CREATE UNIQUE INDEX rotations_one_break_glass ON rotations (account, COALESCE(key, ''))
    WHERE state IN ('requested', 'running') AND trigger = 'break_glass';

CREATE TABLE rotation_steps (
    rotation TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C",
    created_before TEXT,
    version TEXT COLLATE "C",
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    outcome TEXT COLLATE "C" NOT NULL,
    detail TEXT,
    PRIMARY KEY (rotation, seq)
);
CREATE INDEX rotation_steps_in_flight ON rotation_steps (account, started_at, rotation, seq)
    WHERE kind IN ('regenerate', 'publish') AND outcome IN ('intended', 'unclear');
CREATE INDEX rotation_steps_regenerated ON rotation_steps (account, key, started_at, rotation, seq)
    WHERE kind = 'regenerate' AND outcome IN ('done', 'seen');

CREATE TABLE rotation_status (
    account TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    state TEXT COLLATE "C" NOT NULL,
    reasons TEXT NOT NULL,
    looked_at BIGINT NOT NULL,
    look_at BIGINT NOT NULL,
    woken_at BIGINT,
    published_version TEXT COLLATE "C",
    published_key TEXT COLLATE "C",
    published_rotation TEXT COLLATE "C",
    published_at BIGINT,
    due_at BIGINT,
    failures BIGINT NOT NULL,
    overdue_told BIGINT
) WITH (fillfactor = 50);

CREATE TABLE notifications (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    rotation TEXT COLLATE "C",
    at BIGINT NOT NULL,
    data TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL
);
CREATE INDEX notifications_due ON notifications (next_attempt_at);
CREATE INDEX notifications_age ON notifications (at, id);
