// The word that jobs of accuracy on tasks have in the database and in answers of the server.

export const TASKS_JOB = "benchmark";
