-- A plan that may not scan costs so much by the planner's reckoning, wherever a scan is all that there is, that the server
-- would compile it to machine code each time: some 100 ms of it for a step of one.
do $$
declare
    one regprocedure;
begin
    for one in
        select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = '{schema}'
    loop
        execute format('alter function %s set jit = off', one);
    end loop;
end $$;
