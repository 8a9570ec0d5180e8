<?php
// PHP: generators, fibers, exceptions, arrays, regular expressions, reference cycles for its collector, closures.

$scale = (float) (getenv('ZAP_JOB_SCALE') ?: 1);
$rounds = (int) (500 * $scale);

function numbers(int $state): Generator
{
    while (true) {
        $state = ($state * 1103515245 + 12345) & 0x7fffffff;
        $change = yield $state >> 8;
        $state += $change ?? 0;
    }
}

class Node
{
    public ?Node $other = null;
    public function __construct(public int $value)
    {
    }
}

$digest = hash_init('sha256');
$source = numbers(4711);
$words = [];
$caught = 0;
for ($round = 1; $round <= $rounds; $round++) {
    $text = '';
    for ($i = 0; $i < 12000; $i++) {
        $text .= base_convert((string) $source->current(), 10, 36) . ' ';
        $source->next();
    }
    preg_match_all('/\b([a-f])(\w+)\b/', $text, $found, PREG_SET_ORDER);
    foreach ($found as [, $first, $rest]) {
        $words[$first][$rest] = ($words[$first][$rest] ?? 0) + 1;
    }
    $capitals = preg_replace_callback('/\b[a-z]/', fn ($match) => strtoupper($match[0]), $text);
    hash_update($digest, $capitals);
    $fiber = new Fiber(function (int $from) use ($text): int {
        $sum = $from;
        foreach (str_split($text, 1000) as $part) {
            $sum += Fiber::suspend(crc32($part));
        }
        return $sum;
    });
    $value = $fiber->start($round);
    while (!$fiber->isTerminated()) {
        $value = $fiber->resume($value % 1000);
    }
    hash_update($digest, (string) $fiber->getReturn());
    for ($i = 0; $i < 20000; $i++) {
        $left = new Node($i);
        $left->other = new Node(-$i);
        $left->other->other = $left;
    }
    try {
        try {
            throw new RangeException("round $round", $source->send($round) % 100);
        } finally {
            $caught++;
        }
    } catch (RangeException $problem) {
        hash_update($digest, $problem->getMessage() . $problem->getCode());
    }
    usort($found, fn ($a, $b) => strlen($a[2]) <=> strlen($b[2]) ?: strcmp($a[0], $b[0]));
    hash_update($digest, serialize(array_slice($found, 0, 50)));
    if ($round % 50 == 0) {
        printf("round %d: %d words, %s\n", $round, array_sum(array_map('count', $words)), substr(hash_final(hash_copy($digest)), 0, 16));
    }
}
ksort($words);
foreach ($words as $first => $rests) {
    ksort($rests, SORT_STRING);
    hash_update($digest, $first . json_encode($rests));
}
printf("result: %d caught, %s\n", $caught, hash_final($digest));
exit(25);
