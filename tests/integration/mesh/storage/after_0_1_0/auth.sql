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
CREATE TABLE public.buckets (
    key bytea NOT NULL,
    full_time timestamp with time zone NOT NULL
);
CREATE TABLE public.codes (
    id bigint NOT NULL,
    email text NOT NULL,
    digest bytea NOT NULL,
    rest text NOT NULL,
    user_id uuid NOT NULL,
    expire_time timestamp with time zone NOT NULL
);
ALTER TABLE public.codes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.codes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
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
CREATE TABLE public.salt_secret (
    secret bytea NOT NULL
);
CREATE TABLE public.sign_ups (
    user_id uuid NOT NULL,
    request_id uuid,
    email text NOT NULL,
    display_name text NOT NULL,
    password_hash text NOT NULL,
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
INSERT INTO public.alembic_version VALUES ('0003_throttling');
INSERT INTO public.salt_secret VALUES ('\xbe71ce6e95afc8063c6ba4c7ee9e8c70bd9b16da378abc62a52eda337957cb8e');
SELECT pg_catalog.setval('public.codes_id_seq', 1, false);
SELECT pg_catalog.setval('public.outbox_id_seq', 1, false);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_email_key UNIQUE (email);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (user_id);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.anonymous_denials
    ADD CONSTRAINT anonymous_denials_pkey PRIMARY KEY (minute, reason, network);
ALTER TABLE ONLY public.buckets
    ADD CONSTRAINT buckets_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.codes
    ADD CONSTRAINT codes_pkey PRIMARY KEY (id);
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
CREATE INDEX buckets_full_time ON public.buckets USING btree (full_time);
CREATE INDEX codes_email ON public.codes USING btree (email, digest);
CREATE INDEX codes_expire_time ON public.codes USING btree (expire_time);
CREATE INDEX codes_user_id ON public.codes USING btree (user_id);
CREATE INDEX familiar_sources_user_id ON public.familiar_sources USING btree (user_id);
CREATE INDEX outbox_due ON public.outbox USING btree (kind, next_attempt_time, id);
CREATE INDEX outbox_first ON public.outbox USING btree (kind, id) WHERE ((attempts = 0) AND ((kind <> 'audit'::text) OR (sequence IS NOT NULL)));
CREATE INDEX outbox_unnumbered ON public.outbox USING btree (id) WHERE ((kind = 'audit'::text) AND (sequence IS NULL));
CREATE INDEX sign_ups_create_time ON public.sign_ups USING btree (create_time);
CREATE INDEX sign_ups_email ON public.sign_ups USING btree (email, create_time);
CREATE INDEX sign_ups_password ON public.sign_ups USING btree (email, password_hash);
CREATE INDEX subject_keys_of_days ON public.subject_keys USING btree (create_time) WHERE (subject ~~ 'days/%'::text);
ALTER TABLE ONLY public.codes
    ADD CONSTRAINT codes_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.sign_ups(user_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.familiar_sources
    ADD CONSTRAINT familiar_sources_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.accounts(user_id) ON DELETE CASCADE;
