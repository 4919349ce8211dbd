CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.checkpoint_chain (
    number bigint NOT NULL,
    hash bytea NOT NULL,
    "time" timestamp with time zone NOT NULL
);
CREATE TABLE public.outbox (
    id bigint NOT NULL,
    kind text NOT NULL,
    destination text NOT NULL,
    payload bytea NOT NULL,
    sequence bigint,
    attempts integer DEFAULT 0 NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    next_attempt_time timestamp with time zone DEFAULT now() NOT NULL,
    refusals integer DEFAULT 0 NOT NULL,
    CONSTRAINT outbox_kind_check CHECK ((kind = ANY (ARRAY['audit'::text, 'message'::text, 'command'::text])))
);
CREATE TABLE public.outbox_chain (
    source text NOT NULL,
    sequence bigint DEFAULT 0 NOT NULL,
    hash bytea DEFAULT '\x'::bytea NOT NULL
);
ALTER TABLE public.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.outbox_parked (
    id bigint NOT NULL,
    kind text NOT NULL,
    destination text NOT NULL,
    payload bytea NOT NULL,
    sequence bigint,
    reason text NOT NULL,
    create_time timestamp with time zone NOT NULL,
    park_time timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.subject_keys (
    subject text NOT NULL,
    key bytea,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    erase_time timestamp with time zone,
    CONSTRAINT subject_keys_check CHECK (((key IS NULL) = (erase_time IS NOT NULL))),
    CONSTRAINT subject_keys_key_check CHECK ((length(key) = 32))
);
CREATE TABLE public.trail_event (
    "position" bigint NOT NULL,
    source text NOT NULL,
    sequence bigint NOT NULL,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL,
    digest bytea NOT NULL,
    event_time timestamp with time zone NOT NULL,
    type text NOT NULL,
    actor text NOT NULL,
    subject text NOT NULL,
    event bytea NOT NULL,
    off_chain boolean DEFAULT false NOT NULL
);
CREATE TABLE public.trail_head (
    "position" bigint NOT NULL
);
CREATE TABLE public.trail_object (
    key text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL,
    day date NOT NULL,
    events integer NOT NULL,
    root bytea NOT NULL,
    is_read boolean NOT NULL,
    checkpoint bigint
);
CREATE TABLE public.trail_source (
    source text NOT NULL,
    sequence bigint NOT NULL,
    hash bytea NOT NULL,
    day date NOT NULL,
    seen bigint NOT NULL
);
INSERT INTO public.alembic_version VALUES ('0004_off_chain');
INSERT INTO public.checkpoint_chain VALUES (0, '\x', '1970-01-01 00:00:00+00');
INSERT INTO public.trail_head VALUES (0);
SELECT pg_catalog.setval('public.outbox_id_seq', 1, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.outbox_chain
    ADD CONSTRAINT outbox_chain_pkey PRIMARY KEY (source);
ALTER TABLE ONLY public.outbox_parked
    ADD CONSTRAINT outbox_parked_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.subject_keys
    ADD CONSTRAINT subject_keys_pkey PRIMARY KEY (subject);
ALTER TABLE ONLY public.trail_event
    ADD CONSTRAINT trail_event_pkey PRIMARY KEY ("position");
ALTER TABLE ONLY public.trail_event
    ADD CONSTRAINT trail_event_source_sequence_digest_key UNIQUE (source, sequence, digest);
ALTER TABLE ONLY public.trail_object
    ADD CONSTRAINT trail_object_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.trail_source
    ADD CONSTRAINT trail_source_pkey PRIMARY KEY (source);
CREATE INDEX outbox_due ON public.outbox USING btree (kind, next_attempt_time, id);
CREATE INDEX outbox_first ON public.outbox USING btree (kind, id) WHERE ((attempts = 0) AND ((kind <> 'audit'::text) OR (sequence IS NOT NULL)));
CREATE INDEX outbox_unnumbered ON public.outbox USING btree (id) WHERE ((kind = 'audit'::text) AND (sequence IS NULL));
CREATE INDEX subject_keys_of_days ON public.subject_keys USING btree (create_time) WHERE (subject ~~ 'days/%'::text);
CREATE INDEX trail_event_by_actor ON public.trail_event USING btree (actor, event_time, "position") WHERE (actor <> ''::text);
CREATE INDEX trail_event_by_subject ON public.trail_event USING btree (subject, event_time, "position") WHERE (subject <> ''::text);
CREATE INDEX trail_event_by_time ON public.trail_event USING btree (event_time, "position");
CREATE INDEX trail_event_by_type ON public.trail_event USING btree (type, event_time, "position");
CREATE INDEX trail_object_open ON public.trail_object USING btree (key) WHERE (checkpoint IS NULL);
