-- Has the next pass read from the head of the queue, and a pass made at all.
--
-- ARGV    none
-- Atomic  forget the cursor, keep passes that are under way from setting it, claim the dispatch marker
-- Returns dispatch due

reset_cursor()
return claim_dispatch()
