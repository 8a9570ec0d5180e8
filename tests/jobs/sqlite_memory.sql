-- An in-memory database: tables, indexes, a recursive query that fills them, aggregates, text functions.
-- Run by `sqlite3 :memory: ".read sqlite_memory.sql"`, so that the script is a file that is being read all the time.
.bail on
.headers off
create table numbers (id integer primary key, value integer not null, word text not null, flag boolean);
create table pairs (a integer, b integer, product integer, primary key (a, b)) without rowid;
with recursive counter (n, x) as (
    values (1, 12345) union all select n + 1, (x * 1103515245 + 12345) % 2147483648 from counter where n < 400000)
insert into numbers
    select n, x, printf('%08x', x * 31 % 4294967296) || substr('abcdefghijklmnop', 1 + n % 16), x % 2 from counter;
select 'filled: ' || count(*) || ' rows, sum ' || sum(value) from numbers;
create index by_value on numbers (value);
create index by_word on numbers (word, flag);
select 'indexed: ' || count(distinct word) || ' words from ' || min(word) || ' to ' || max(word) from numbers;
insert into pairs
    select a.id, b.id, a.value * b.id % 1000003
    from numbers a join numbers b on b.id between a.id % 1000 and a.id % 1000 + 4
    where a.id <= 60000;
select 'joined: ' || count(*) || ' pairs, sum ' || sum(product) from pairs;
update numbers set value = (select coalesce(sum(product), 0) from pairs where a = numbers.id), flag = not flag
    where id % 3 = 0;
select 'updated: ' || sum(value) || ', ' || sum(flag) from numbers;
delete from numbers where id % 7 = 2;
select 'deleted: ' || count(*) || ' rows are left, ' || total(value) from numbers;
create table words as
    select substr(word, 1, 2) as start, count(*) as many, max(value) as highest, group_concat(id % 10, '') as digits
    from (select * from numbers order by word) group by start;
select 'grouped: ' || start || ' ' || many || ' ' || highest || ' ' || length(digits)
    from words order by many desc, start limit 8;
with ranked as (
    select id, value, row_number() over (partition by id % 100 order by value desc, id) as place,
           sum(value) over (partition by id % 100 order by id) as running from numbers)
select 'ranked: ' || sum(id * place % 10007) || ', ' || sum(running % 1000003) from ranked;
select 'result: ' || (select sum(value * id % 1000003) from numbers)
    || ', ' || (select sum(product * b) from pairs) || ', '
    || (select integrity_check from pragma_integrity_check);
