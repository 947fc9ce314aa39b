# SPDX-License-Identifier: GPL-2.0-or-later
use strict;
use warnings;
$| = 0;
my ($seed, %count) = (42);
sub rnd { $seed = ($seed * 1103515245 + 12345) % 2147483648; return $seed >> 8 }
pipe(my $r, my $w) or die;
my $pid = fork() // die;
if (!$pid) {
	close $r;
	for my $i (1 .. 1_200_000) {
		print $w join(' ', map { chr(97 + rnd() % 26) x (1 + rnd() % 3) } 1 .. 4), "\n";
	}
	close $w or die;
	exit 7;
}
close $w;
while (my $line = <$r>) {
	while ($line =~ /(\w)(\w*)/g) {
		$count{"$1" . length($2)}++;
	}
}
waitpid($pid, 0) == $pid or die "waitpid: $!";
print "child ", $? >> 8, "\n";
print "$_ $count{$_}\n" for sort keys %count;
