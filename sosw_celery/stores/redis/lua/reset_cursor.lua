-- Has the next pass read from the head of the queue.
--
-- ARGV    none
-- Atomic  forget the cursor, keep passes that are under way from setting it
-- Returns nothing

reset_cursor()
