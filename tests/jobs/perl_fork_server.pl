# A server that makes a process for each client, by a socketpair, and one that keeps workers behind pipes.
#
# Wrong would be: an answer that is lost, a child that is not waited for exactly once.

use strict;
use warnings;
use Socket;
use IO::Handle;
use POSIX ":sys_wait_h";

$| = 1;
my $scale = $ENV{ZAP_JOB_SCALE} // 1;
my $clients = int(2000 * $scale);
my %ended;
# Children are reaped by a handler, as servers do.
$SIG{CHLD} = sub {
    local ($!, $?);
    while ((my $pid = waitpid(-1, WNOHANG)) > 0) { $ended{$pid} = ($ended{$pid} // 0) + 1 + ($? >> 8) * 1000; }
};

sub compute {
    my ($x, $rounds) = @_;
    for (1 .. $rounds) { $x = ($x * 1103515245 + 12345) % 2147483648; }
    return $x;
}

# Workers that stay: each has a socket for what it is asked and answers there.
my @workers;
for my $number (0 .. 3) {
    socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
    my $pid = fork() // die "fork: $!";
    if ($pid == 0) {
        close $ours;
        $theirs->autoflush(1);
        while (my $line = <$theirs>) {
            my ($id, $x) = split ' ', $line;
            print $theirs $id, " ", compute($x, 2000), "\n";
        }
        exit 10 + $number;
    }
    close $theirs;
    $ours->autoflush(1);
    push @workers, { pid => $pid, socket => $ours, number => $number };
}

my ($total, $answers) = (0, 0);
my @made;
for my $client (1 .. $clients) {
    # One of the workers.
    my $worker = $workers[$client % @workers];
    my $socket = $worker->{socket};
    print $socket "$client $total\n";
    my $answer = <$socket> // die "worker $worker->{number} has ended";
    my ($id, $x) = split ' ', $answer;
    $id == $client or die "FAIL: answer $id instead of $client\n";
    # One of its own.
    pipe(my $read, my $write) or die "pipe: $!";
    my $pid = fork() // die "fork: $!";
    if ($pid == 0) {
        close $read;
        print $write compute($client, 1000), "\n";
        close $write;
        POSIX::_exit($client % 5);
    }
    close $write;
    my $own = <$read>;
    push @made, [$pid, $client % 5];
    $total = ($total + $x + $own) % 1000003;
    $answers++;
    print "$answers answers: $total\n" if $client % 400 == 0;
}
close $_->{socket} for @workers;
push @made, [$_->{pid}, 10 + $_->{number}] for @workers;
my %wanted = ();
for (@made) { $wanted{$_->[0]} = ($wanted{$_->[0]} // 0) + 1 + $_->[1] * 1000; }
for my $pid (keys %wanted) {
    select(undef, undef, undef, 0.01) until defined $ended{$pid} && $ended{$pid} >= $wanted{$pid};
    $ended{$pid} == $wanted{$pid} or die "FAIL: child $pid: $ended{$pid} instead of $wanted{$pid}\n";
}
print "result: $answers answers, $total, ", scalar(@made), " children\n";
exit 48;
