/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sieve again and again, with floating point between: something to interrupt. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 4000000

int main(int argc, char **argv)
{
	static unsigned char sieve[N];
	int rounds = argc > 1 ? atoi(argv[1]) : 10;
	double sum = 0;

	for (int r = 0; r < rounds; r++) {
		memset(sieve, 1, sizeof(sieve));
		for (long i = 2; i * i < N; i++)
			if (sieve[i])
				for (long k = i * i; k < N; k += i)
					sieve[k] = 0;
		for (long i = 2; i < N; i += 1 + r % 5)
			if (sieve[i])
				sum += sqrt((double)i + r);
		printf("%d %.10f\n", r, sum);
	}
	return 0;
}
