# Perl: hashes of arrays, regular expressions, sorting, pack, string growth; a digest over all of it.
use strict;
use warnings;
use Digest::SHA;

$| = 1;
my $scale  = $ENV{ZAP_JOB_SCALE} // 1;
my $rounds = int(90 * $scale);
my $state  = 12345;

sub next_number {
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    return $state >> 8;
}

my ($digest, %words) = (Digest::SHA->new(256));
for my $round (1 .. $rounds) {
    my $text = '';
    for (1 .. 20_000) {
        my $number = next_number();
        $text .= join('', map { chr(97 + ($number >> (3 * $_)) % 26) } 0 .. 3) . ' ';
    }
    while ($text =~ /\b(\w)(\w+)\b/g) {
        push @{ $words{$1}{$2} }, pos($text);
        shift @{ $words{$1}{$2} } if @{ $words{$1}{$2} } > 3;
    }
    (my $capitals = $text) =~ s/(\w)(\w*)/\u$1$2/g;
    $digest->add($capitals);
    if ($round % 10 == 0) {
        my $kinds = 0;
        $kinds += scalar keys %{ $words{$_} } for keys %words;
        printf "round %d: %d words, %s\n", $round, $kinds, $digest->clone->hexdigest =~ s/(.{16}).*/$1/r;
    }
}
for my $first (sort keys %words) {
    for my $rest (sort { $words{$first}{$a}[0] <=> $words{$first}{$b}[0] || $a cmp $b } keys %{ $words{$first} }) {
        $digest->add($first, $rest, pack('N*', @{ $words{$first}{$rest} }));
    }
}
printf "result: %s\n", $digest->hexdigest;
exit 11;
