-- A database in a file, inside one transaction that stays open for nearly all of the job: locks on the file, a rollback
-- journal, pages in memory that the file does not have yet. Run by `sqlite3 job.db < sqlite_file.sql`, so that the
-- script is standard input, a regular file.
--
-- cache_spill is off, so that the file is written at the commit only: a program that is killed after its checkpoint and
-- restarted finds the file as it was. Wrong would be: a lock that is gone, a script that is read from another place, a
-- journal that is written at another offset.
.bail on
pragma journal_mode = delete;
pragma cache_size = -200000;
pragma cache_spill = off;
pragma locking_mode;
create table if not exists numbers (id integer primary key, value integer not null, word text not null);
insert into numbers values (0, 0, 'before');
begin immediate;
with recursive counter (n, x) as (
    values (1, 54321) union all select n + 1, (x * 1103515245 + 12345) % 2147483648 from counter where n < 600000)
insert into numbers select n, x, printf('%08x', x) from counter;
select 'filled: ' || count(*) || ' rows, sum ' || sum(value) from numbers;
savepoint halfway;
create index by_word on numbers (word);
select 'indexed: from ' || min(word) || ' to ' || max(word) from numbers;
update numbers set value = value * 7 % 1000003 where id % 2 = 0;
select 'updated: sum ' || sum(value) from numbers;
delete from numbers where id % 5 = 1;
select 'deleted: ' || count(*) || ' rows are left' from numbers;
rollback to halfway;
select 'rolled back: ' || count(*) || ' rows, sum ' || sum(value) from numbers;
create index by_value on numbers (value, word);
update numbers set word = word || '-' || (id % 97) where value % 3 = 0;
select 'updated: ' || count(distinct substr(word, 10)) || ' endings' from numbers;
insert into numbers select id + 2000000, value + id, 'copy of ' || word from numbers where id % 4 = 1;
select 'copied: ' || count(*) || ' rows, sum ' || sum(value) from numbers;
commit;
select 'committed: ' || count(*) || ' rows' from numbers;
select 'result: ' || sum(value * id % 1000003) || ', ' || (select integrity_check from pragma_integrity_check)
    from numbers;
