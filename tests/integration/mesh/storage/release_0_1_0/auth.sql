CREATE TABLE public.accounts (
    user_id uuid NOT NULL,
    email text NOT NULL,
    password_hash text NOT NULL,
    disabled boolean DEFAULT false NOT NULL,
    status_version bigint DEFAULT 0 NOT NULL,
    create_time timestamp with time zone NOT NULL
);
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.anonymous_denials (
    minute timestamp with time zone NOT NULL,
    reason text NOT NULL,
    network text NOT NULL,
    count bigint NOT NULL
);
CREATE TABLE public.attempts (
    key bytea NOT NULL,
    count integer NOT NULL,
    last_time timestamp with time zone NOT NULL,
    blocked_until timestamp with time zone
);
CREATE TABLE public.familiar_sources (
    key bytea NOT NULL,
    user_id uuid NOT NULL,
    last_time timestamp with time zone NOT NULL
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
CREATE TABLE public.sign_ups (
    user_id uuid NOT NULL,
    request_id uuid,
    email text NOT NULL,
    display_name text NOT NULL,
    password_hash text NOT NULL,
    code_hash bytea,
    code_expire_time timestamp with time zone NOT NULL,
    code_attempts integer DEFAULT 0 NOT NULL,
    create_time timestamp with time zone NOT NULL,
    verify_time timestamp with time zone
);
CREATE TABLE public.subject_keys (
    subject text NOT NULL,
    key bytea,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    erase_time timestamp with time zone,
    CONSTRAINT subject_keys_check CHECK (((key IS NULL) = (erase_time IS NOT NULL))),
    CONSTRAINT subject_keys_key_check CHECK ((length(key) = 32))
);
INSERT INTO public.accounts VALUES ('01980000-0000-7000-8000-000000000001', 'ada@example.com', 'argon2', false, 0, '2026-11-26 12:01:39.899968+00');
INSERT INTO public.alembic_version VALUES ('0002_audit_pipeline');
INSERT INTO public.anonymous_denials VALUES ('2026-11-26 12:01:39.899968+00', 'CREDENTIALS_INVALID', '192.0.2.0/24', 4);
INSERT INTO public.attempts VALUES ('\x6b6579', 3, '2026-11-26 12:01:39.899968+00', NULL);
INSERT INTO public.familiar_sources VALUES ('\x736f75726365', '01980000-0000-7000-8000-000000000001', '2026-11-26 12:01:39.899968+00');
INSERT INTO public.outbox OVERRIDING SYSTEM VALUE VALUES (1, 'audit', 'auth.signed_in', '\x0a2430316132313762622d393833652d373265362d616365342d6361396463626234623635361204617574681801220c08a3bfa0d8061098a99bae032a0e617574682e7369676e65645f696e30014a2a75736572732f30313938303030302d303030302d373030302d383030302d303030303030303030303031a201275bc6c591373cca8a3c65f1655056e1a6bc24cc88e0a37063652b474f86be75b7a9b57f73403418', 1, 0, '2026-11-26 12:01:39.899968+00', '2026-11-26 12:01:39.899968+00', 0);
INSERT INTO public.outbox OVERRIDING SYSTEM VALUE VALUES (2, 'message', 'verify_email', '\x7b22656d61696c223a2022626f62406578616d706c652e636f6d222c20226b696e64223a20227665726966795f656d61696c222c2022636f6465223a20223132333435363738222c2022646973706c61795f6e616d65223a2022222c20226661637473223a207b7d2c202273656e745f74696d65223a2022323032362d31312d32365431323a30313a33392e3930323839352b30303a3030227d', NULL, 1, '2026-11-26 12:01:39.899968+00', '2026-11-26 12:01:39.899968+00', 0);
INSERT INTO public.outbox_chain VALUES ('auth', 1, '\xe8918d4887022b5e25c3d0ad137aaebfc578749d775455ff0bda4a392435ebf9');
INSERT INTO public.sign_ups VALUES ('01980000-0000-7000-8000-000000000002', NULL, 'bob@example.com', 'Bob', 'argon2', '\x78', '2026-11-26 12:01:39.899968+00', 0, '2026-11-26 12:01:39.899968+00', NULL);
INSERT INTO public.subject_keys VALUES ('users/01980000-0000-7000-8000-000000000001', '\xdc80ea60860f0d481b4f9c21f4c9bc23c1342d955b2b28830bc192fffd5af6cf', '2026-11-26 12:01:39.903592+00', NULL);
SELECT pg_catalog.setval('public.outbox_id_seq', 2, true);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_email_key UNIQUE (email);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (user_id);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.anonymous_denials
    ADD CONSTRAINT anonymous_denials_pkey PRIMARY KEY (minute, reason, network);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.familiar_sources
    ADD CONSTRAINT familiar_sources_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.outbox_chain
    ADD CONSTRAINT outbox_chain_pkey PRIMARY KEY (source);
ALTER TABLE ONLY public.outbox_parked
    ADD CONSTRAINT outbox_parked_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.sign_ups
    ADD CONSTRAINT sign_ups_pkey PRIMARY KEY (user_id);
ALTER TABLE ONLY public.sign_ups
    ADD CONSTRAINT sign_ups_request_id_key UNIQUE (request_id);
ALTER TABLE ONLY public.subject_keys
    ADD CONSTRAINT subject_keys_pkey PRIMARY KEY (subject);
CREATE INDEX attempts_last_time ON public.attempts USING btree (last_time);
CREATE INDEX familiar_sources_user_id ON public.familiar_sources USING btree (user_id);
CREATE INDEX outbox_due ON public.outbox USING btree (kind, next_attempt_time, id);
CREATE INDEX outbox_first ON public.outbox USING btree (kind, id) WHERE ((attempts = 0) AND ((kind <> 'audit'::text) OR (sequence IS NOT NULL)));
CREATE INDEX outbox_unnumbered ON public.outbox USING btree (id) WHERE ((kind = 'audit'::text) AND (sequence IS NULL));
CREATE INDEX sign_ups_create_time ON public.sign_ups USING btree (create_time);
CREATE INDEX sign_ups_email ON public.sign_ups USING btree (email, create_time);
CREATE INDEX subject_keys_of_days ON public.subject_keys USING btree (create_time) WHERE (subject ~~ 'days/%'::text);
ALTER TABLE ONLY public.familiar_sources
    ADD CONSTRAINT familiar_sources_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.accounts(user_id) ON DELETE CASCADE;
