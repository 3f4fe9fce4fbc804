"""Writes a plain SQL dump as `pg_dump` of a pgbench database looks, without PostgreSQL: the same bytes for the same size."""

import random

SEED = 20260101
BLOCK_ROWS = 2000
WORDS = ("shipped", "pending", "returned", "invoice", "customer", "quarterly", "priority", "standard", "express",
         "north", "south", "east", "west", "refund", "credit", "transfer", "archived", "review", "approved", "open")

HEAD = """--
-- PostgreSQL database dump
--

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

CREATE TABLE public.pgbench_accounts (
    aid integer NOT NULL,
    bid integer,
    abalance integer,
    mtime timestamp without time zone,
    filler character(84)
);

COPY public.pgbench_accounts (aid, bid, abalance, mtime, filler) FROM stdin;
"""
TAIL = "\\.\n\nALTER TABLE ONLY public.pgbench_accounts\n    ADD CONSTRAINT pgbench_accounts_pkey PRIMARY KEY (aid);\n"


def write_dump(path, size_bytes):
    """Writes a dump of at least `size_bytes`, by less than one block of rows more; zstd level 3 shrinks it about 3.7 times."""
    source = random.Random(SEED)
    written = aid = 0
    with open(path, "w", encoding="ascii", newline="\n") as file:
        written += file.write(HEAD)
        while written < size_bytes - len(TAIL):
            lines = []
            for _ in range(BLOCK_ROWS):
                aid += 1
                bits = source.getrandbits(160)
                filler = " ".join(WORDS[(bits >> shift) % len(WORDS)] for shift in (0, 5, 10)) + f" {bits >> 96:016x}"
                seconds = (bits >> 20) % 86400
                lines.append(
                    f"{aid}\t{(aid - 1) // 100000 + 1}\t{(bits >> 40) % 200001 - 100000}\t2026-03-"
                    f"{(bits >> 60) % 28 + 1:02} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}."
                    f"{(bits >> 66) % 1000000:06}\t{filler:<84}\n")
            written += file.write("".join(lines))
        file.write(TAIL)
