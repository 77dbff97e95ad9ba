/* Every rank says who and where it is; the ranks add themselves up and fail together when the sum is wrong.
 * One optional argument: seconds to sleep between two barriers, or `die`: exit there with code 3. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int rank, size, sum = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    const char *node = getenv("SLURMD_NODENAME");
    char host[256] = "";
    if (node == NULL) {
        gethostname(host, sizeof host - 1);
        node = host;
    }
    printf("rank %d of %d on %s\n", rank, size, node);
    fflush(stdout);
    MPI_Barrier(MPI_COMM_WORLD);
    if (argc > 1 && strcmp(argv[1], "die") == 0)
        exit(3);
    if (argc > 1)
        sleep((unsigned)atoi(argv[1]));
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    MPI_Finalize();
    return sum == size * (size - 1) / 2 ? 0 : 1;
}
